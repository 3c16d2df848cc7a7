//! The machine: its type, CPUs, devices, objects and links.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Qmp;
use crate::error::Result;
use crate::lenient::count;
use crate::oob::YankInstance;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineInfo {
    /// The versioned name, `pc-q35-7.2`: only this may travel.
    pub name: String,
    /// The name that means another machine in the next release, `q35`.
    #[serde(default)]
    pub alias: Option<String>,
    #[serde(default)]
    pub is_default: bool,
    #[serde(default, deserialize_with = "count")]
    pub cpu_max: u64,
    #[serde(default)]
    pub deprecated: bool,
    #[serde(default)]
    pub default_cpu_type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CpuDefinition {
    pub name: String,
    /// What this host and accelerator lack for the model. Missing where QEMU cannot tell.
    #[serde(default)]
    pub unavailable_features: Option<Vec<String>>,
    #[serde(default)]
    pub migration_safe: Option<bool>,
    #[serde(default)]
    pub alias_of: Option<String>,
    #[serde(default)]
    pub deprecated: bool,
}

#[derive(Debug, Deserialize)]
struct ExpandedCpu {
    model: ExpandedModel,
}

#[derive(Debug, Deserialize)]
struct ExpandedModel {
    #[serde(default)]
    props: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CpuInfo {
    pub cpu_index: u32,
    /// The host thread that runs this vCPU.
    pub thread_id: i64,
    #[serde(default)]
    pub qom_path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IoThreadInfo {
    pub id: String,
    pub thread_id: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PciBus {
    pub bus: i64,
    #[serde(default)]
    pub devices: Vec<PciDevice>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PciDevice {
    pub bus: i64,
    pub slot: i64,
    pub function: i64,
    /// The device's id on the command line; empty where it has none.
    #[serde(default)]
    pub qdev_id: String,
    pub class_info: PciClass,
    pub id: PciId,
    /// The bus behind a bridge or a root port.
    #[serde(default)]
    pub pci_bridge: Option<PciBridge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PciClass {
    pub class: i64,
    #[serde(default)]
    pub desc: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct PciId {
    pub device: i64,
    pub vendor: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PciBridge {
    #[serde(default)]
    pub devices: Vec<PciDevice>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct QomProperty {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

impl Qmp {
    pub async fn query_machines(&self) -> Result<Vec<MachineInfo>> {
        self.ask("query-machines", Value::Null).await
    }

    pub async fn query_cpu_definitions(&self) -> Result<Vec<CpuDefinition>> {
        self.ask("query-cpu-definitions", Value::Null).await
    }

    /// Names of the features that a CPU of this model has; of `static` names, that is without QEMU's own settings of CPUs.
    pub async fn cpu_model_features(&self, model: &str) -> Result<Vec<String>> {
        let ask = json!({ "type": "static", "model": { "name": model } });
        let told: ExpandedCpu = self.ask("query-cpu-model-expansion", ask).await?;
        let on = told.model.props.into_iter().filter(|(_, value)| *value == Value::Bool(true));
        Ok(on.map(|(name, _)| name).collect())
    }

    pub async fn query_cpus_fast(&self) -> Result<Vec<CpuInfo>> {
        self.ask("query-cpus-fast", Value::Null).await
    }

    pub async fn query_iothreads(&self) -> Result<Vec<IoThreadInfo>> {
        self.ask("query-iothreads", Value::Null).await
    }

    pub async fn query_pci(&self) -> Result<Vec<PciBus>> {
        self.ask("query-pci", Value::Null).await
    }

    /// What can be cut by force. An instance of a kind from the future is left out: nobody here could name it.
    pub async fn query_yank(&self) -> Result<Vec<YankInstance>> {
        let list: Vec<Value> = self.ask("query-yank", Value::Null).await?;
        Ok(list.into_iter().filter_map(|instance| serde_json::from_value(instance).ok()).collect())
    }

    pub async fn qom_get(&self, path: &str, property: &str) -> Result<Value> {
        self.execute("qom-get", json!({ "path": path, "property": property })).await
    }

    pub async fn qom_set(&self, path: &str, property: &str, value: Value) -> Result<()> {
        self.tell("qom-set", json!({ "path": path, "property": property, "value": value })).await
    }

    pub async fn qom_list(&self, path: &str) -> Result<Vec<QomProperty>> {
        self.ask("qom-list", json!({ "path": path })).await
    }

    /// Makes an object: `{"qom-type": …, "id": …, …}`.
    pub async fn object_add(&self, object: Value) -> Result<()> {
        self.tell("object-add", object).await
    }

    pub async fn object_del(&self, id: &str) -> Result<()> {
        self.tell("object-del", json!({ "id": id })).await
    }

    /// Plugs a guest's network card in or pulls its cable, by the id of the card or of its backend.
    pub async fn set_link(&self, name: &str, up: bool) -> Result<()> {
        self.tell("set_link", json!({ "name": name, "up": up })).await
    }
}
