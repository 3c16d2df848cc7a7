//! Hypervisors: what a host has and what of it is in use, in the form of each version.

use reqwest::Method;
use serde_json::{Value, json};
use whimbrel_api::native::ServerStatus;

use crate::{
    cloud::Cloud,
    fake_agent::UPTIME,
    place::until,
    services::{member, with_hosts},
};

struct Asking<'a> {
    cloud: &'a Cloud,
    admin: &'a str,
}

impl Asking<'_> {
    async fn get(&self, path: &str, at: &str, want: u16) -> Value {
        let reply = self.cloud.compute(Method::GET, &format!("/os-hypervisors{path}"), self.admin, at, None).await;
        assert_eq!(reply.status, want, "{path} at {at}: {}", reply.body);
        reply.body
    }

    /// Names of the hosts of a list.
    async fn names(&self, path: &str, at: &str) -> String {
        let body = self.get(path, at, 200).await;
        let all = body["hypervisors"].as_array().unwrap();
        all.iter().map(|one| one["hypervisor_hostname"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    }
}

#[tokio::test]
async fn a_hypervisor_tells_what_it_has_and_what_is_in_use() {
    let (cloud, admin) = with_hosts().await;
    let ask = Asking { cloud: &cloud, admin: &admin };
    cloud.place.image("debian", &[0; 4096]).await.unwrap();
    cloud.place.flavor("small", 512, 1).await;
    cloud.place.server("s1", "small", Some("h1")).await.unwrap();
    cloud.place.server_is("s1", ServerStatus::Active).await;
    // Heard of by a heartbeat: from then on the agent counts what its disks may grow by.
    let shown = until("the server to be counted by its host", async || {
        let shown = ask.get("/1", "2.1", 200).await["hypervisor"].clone();
        (shown["disk_available_least"] == 60).then_some(shown)
    })
    .await;
    let check = |shown: &Value, want: Value| {
        let fields = want.as_object().unwrap();
        assert!(fields.iter().all(|(name, value)| shown[name] == *value), "{shown} is not {want}");
    };
    check(
        &shown,
        json!({
            "id": 1, "hypervisor_hostname": "h1", "state": "up", "status": "enabled", "hypervisor_type": "QEMU",
            "hypervisor_version": 7_002_022, "host_ip": "127.0.0.1", "vcpus": 4, "vcpus_used": 1, "memory_mb": 4096,
            "memory_mb_used": 1024, "free_ram_mb": 3072, "local_gb": 100, "local_gb_used": 2, "free_disk_gb": 98,
            "running_vms": 1, "current_workload": 0, "service": {"id": 1, "host": "h1", "disabled_reason": null},
        }),
    );
    let cpu: Value = serde_json::from_str(shown["cpu_info"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&cpu["vendor"], &cpu["arch"], &cpu["topology"]["sockets"]),
        (&json!("AMD"), &json!("x86_64"), &json!(0))
    );
    assert_eq!(ask.get("/1", "2.28", 200).await["hypervisor"]["cpu_info"], cpu);

    let statistics = ask.get("/statistics", "2.87", 200).await["hypervisor_statistics"].clone();
    check(
        &statistics,
        json!({"count": 2, "vcpus": 8, "vcpus_used": 1, "memory_mb": 8192, "memory_mb_used": 1536, "running_vms": 1,
            "local_gb": 200, "local_gb_used": 2, "free_ram_mb": 6656, "free_disk_gb": 198, "disk_available_least": 120}),
    );
    ask.get("/statistics", "2.88", 404).await;
    assert_eq!(ask.get("/1/uptime", "2.1", 200).await["hypervisor"]["uptime"], UPTIME);

    let uuid = ask.get("", "2.53", 200).await["hypervisors"][0]["id"].as_str().unwrap().to_owned();
    let newest = ask.get(&format!("/{uuid}"), "2.96", 200).await["hypervisor"].clone();
    assert_eq!((&newest["uptime"], newest.get("vcpus"), newest.get("servers")), (&json!(UPTIME), None, None));
    ask.get(&format!("/{uuid}/uptime"), "2.88", 404).await;
    for (path, at) in [("/h1", "2.53"), ("/1", "2.53"), ("/h1", "2.1"), ("/9", "2.1"), (&format!("/{uuid}"), "2.52")] {
        ask.get(path, at, 404).await;
    }
    ask.get("/2b8d4a4c-0000-4000-8000-000000000000", "2.96", 404).await;
    let alice = member(&cloud, &admin).await;
    for path in ["", "/detail", "/statistics", "/1", "/1/uptime", "/h1/search", "/h1/servers"] {
        let reply = cloud.compute(Method::GET, &format!("/os-hypervisors{path}"), &alice, "2.1", None).await;
        assert_eq!(reply.status, 403, "{path}: {}", reply.body);
    }
}

#[tokio::test]
async fn hypervisors_are_found_by_name_walked_in_pages_and_shown_with_their_servers() {
    let (cloud, admin) = with_hosts().await;
    let ask = Asking { cloud: &cloud, admin: &admin };
    cloud.place.image("debian", &[0; 4096]).await.unwrap();
    cloud.place.flavor("small", 512, 1).await;
    let server = cloud.place.server("s1", "small", Some("h2")).await.unwrap();
    assert_eq!(ask.names("", "2.1").await, "h1 h2");
    assert_eq!(ask.names("?limit=1", "2.32").await, "h1 h2");
    assert_eq!(ask.names("?limit=1", "2.33").await, "h1");
    assert_eq!(ask.names("/detail?limit=1&marker=1", "2.33").await, "h2");
    let page = ask.get("/detail?limit=1", "2.53", 200).await;
    let next = page["hypervisors_links"][0]["href"].as_str().unwrap();
    assert!(next.contains("/os-hypervisors/detail?limit=1&marker="), "{next}");
    let query = next.split_once('?').unwrap().1;
    assert_eq!(ask.names(&format!("?{query}"), "2.53").await, "h2");
    ask.get("?marker=9", "2.33", 400).await;

    assert_eq!(ask.names("/2/search", "2.52").await, "h2");
    assert_eq!(ask.names("/h/servers", "2.1").await, "h1 h2");
    ask.get("/x/search", "2.52", 404).await;
    ask.get("/h/search", "2.53", 404).await;
    ask.get("/h/servers", "2.53", 404).await;
    assert_eq!(ask.names("?hypervisor_hostname_pattern=2", "2.53").await, "h2");
    ask.get("?hypervisor_hostname_pattern=x", "2.53", 404).await;
    ask.get("?hypervisor_hostname_pattern=h&limit=1", "2.53", 400).await;
    ask.get("?with_servers=perhaps", "2.53", 400).await;
    ask.get("?colour=red", "2.53", 400).await;

    let servers = json!([{"uuid": server.id, "name": "s1"}]);
    let check = async |path: &str, at: &str, want: [Option<&Value>; 2]| {
        let body = ask.get(path, at, 200).await;
        assert_eq!([0, 1].map(|at| body["hypervisors"][at].get("servers")), want, "{path} at {at}");
    };
    check("/h/servers", "2.1", [None, Some(&servers)]).await;
    check("?with_servers=true", "2.53", [None, Some(&servers)]).await;
    check("?with_servers=true", "2.75", [Some(&json!([])), Some(&servers)]).await;
    check("/detail?with_servers=1", "2.96", [Some(&json!([])), Some(&servers)]).await;
    check("?with_servers=false", "2.96", [None, None]).await;
    let id = ask.get("", "2.96", 200).await["hypervisors"][1]["id"].as_str().unwrap().to_owned();
    let shown = ask.get(&format!("/{id}?with_servers=true"), "2.96", 200).await;
    assert_eq!(shown["hypervisor"]["servers"], servers);
}

#[tokio::test]
async fn a_host_that_is_down_or_old_says_so() {
    let cloud = Cloud::new().await;
    let h1 = cloud.place.host("h1").await;
    let silent = cloud.place.join_by(&cloud.place.token("h2").await, "h2").await;
    assert!(silent.is_ok(), "it joined and never reported");
    let admin = cloud.admin().await;
    let ask = Asking { cloud: &cloud, admin: &admin };
    assert_eq!(ask.names("", "2.1").await, "h1");
    ask.get("/2", "2.1", 404).await;
    let services = cloud.compute(Method::GET, "/os-services?host=h2", &admin, "2.1", None).await.body;
    let service = &services["services"][0];
    assert_eq!((&service["state"], &service["updated_at"]), (&json!("down"), &Value::Null));

    if let Some(facts) = &mut h1.told().facts {
        (facts.cpu_info, facts.uptime) = (None, None);
    }
    until("h1 to report as an old agent", async || {
        (ask.get("/1", "2.1", 200).await["hypervisor"]["cpu_info"] == "{}").then_some(())
    })
    .await;
    ask.get("/1/uptime", "2.1", 501).await;
    let id = ask.get("", "2.88", 200).await["hypervisors"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(ask.get(&format!("/{id}"), "2.88", 200).await["hypervisor"]["uptime"], Value::Null);
    let dead = json!({"forced_down": true, "host": "h1", "binary": "nova-compute"});
    let reply = cloud.compute(Method::PUT, "/os-services/force-down", &admin, "2.11", Some(dead)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(ask.get("/1", "2.1", 200).await["hypervisor"]["state"], "down");
    let refused = ask.get("/1/uptime", "2.1", 400).await;
    assert_eq!(refused["badRequest"]["message"], "Compute service of h1 is unavailable at this time.");
}
