//! CPUs of guests as QEMU tells them: of one that runs, what it sees; of a host, what any guest there may have.
//!
//! Ground rules: QEMU is asked, versions are not compared; names are QEMU's own, so that two of them can be compared.

use whimbrel_core::cpu::{CpuOffer, GuestCpu};
use whimbrel_qmp::{CpuDefinition, Qmp, QmpError};

/// All that the accelerator can do.
const MOST: &str = "max";

/// What a guest of this model sees. To be asked of the guest's own QEMU, or the machine's version is not counted.
pub async fn of_model(qmp: &Qmp, model: &str) -> Result<GuestCpu, QmpError> {
    let features = qmp.cpu_model_features(model).await?;
    Ok(GuestCpu { model: model.to_owned(), features: features.into_iter().collect() })
}

/// Of a QEMU with the accelerator that guests get.
pub async fn offered(qmp: &Qmp, models: &[CpuDefinition]) -> Result<CpuOffer, QmpError> {
    let lacking = |model: &CpuDefinition| model.unavailable_features.iter().flatten().cloned().collect();
    Ok(CpuOffer {
        features: qmp.cpu_model_features(MOST).await?.into_iter().collect(),
        models: models.iter().map(|model| (model.name.clone(), lacking(model))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use tokio::process::Command;
    use whimbrel_core::cpu::{Lack, lack};

    use super::*;
    use crate::{
        facts::Qemu,
        trial::{QEMU_VARIABLES, TIME_MAX, Trial},
    };

    /// What a guest of this model and machine type sees, asked of its own QEMU; and what the host offers.
    async fn of(variable: &str, machine: &str, model: &str) -> (GuestCpu, CpuOffer) {
        let trial = Trial::on(variable, None);
        let socket = trial.dir.path().join("guest.sock");
        let machine = format!("{machine},accel={}", trial.hypervisor.accel);
        let monitor = format!("unix:{},server=on,wait=off", socket.display());
        let mut guest = Command::new(&trial.hypervisor.system);
        guest.args(["-S", "-nodefaults", "-display", "none", "-m", "16", "-machine", &machine, "-cpu", model]);
        let mut guest = guest.args(["-qmp", &monitor]).kill_on_drop(true).spawn().unwrap();
        let qmp = Qmp::connect(&socket, TIME_MAX).await.unwrap();
        let seen = of_model(&qmp, model).await.unwrap();
        let _ = qmp.quit().await;
        guest.wait().await.unwrap();
        (seen, Qemu::probe(&trial.hypervisor, &trial.paths).await.unwrap().cpu)
    }

    #[tokio::test]
    async fn a_guest_is_compared_with_what_the_other_qemu_can_give() {
        let [old, new] = QEMU_VARIABLES;
        let (plain, of_old) = of(old, "pc-q35-7.2", "qemu64").await;
        let (rich, of_new) = of(new, "pc-q35-7.2", "max").await;
        assert!(plain.features.contains("sse2") && !plain.features.contains("avx2"), "{plain:?}");
        // Settings of QEMU's own are none of the guest's business.
        assert!(!plain.features.contains("check") && !of_old.features.contains("tcg-cpuid"), "{plain:?}");
        assert_eq!((lack(&plain, &of_old), lack(&plain, &of_new), lack(&rich, &of_new)), (None, None, None));
        let Some(Lack::Features(missing)) = lack(&rich, &of_old) else { panic!("{of_old:?} has all of {rich:?}") };
        for feature in ["rdseed", "sha-ni", "x2apic"] {
            assert!(missing.iter().any(|name| name == feature), "{missing:?}");
        }
        assert!(!missing.iter().any(|name| name == "sse2"), "{missing:?}");
        // A model that needs more than emulation can do.
        let haswell = GuestCpu { model: "Haswell".to_owned(), ..plain.clone() };
        let Some(Lack::Features(missing)) = lack(&haswell, &of_old) else { panic!("{:?}", of_old.models) };
        assert!(missing.iter().any(|name| name == "pcid"), "{missing:?}");
        assert_eq!(lack(&GuestCpu { model: "abacus".to_owned(), ..plain }, &of_new), Some(Lack::Model));
    }
}
