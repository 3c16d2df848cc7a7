//! Can a host's QEMU give a guest the very CPU that it has?
//!
//! ```text
//! guest's QEMU:  its model, expanded ------------> GuestCpu  --.
//!                                                              missing -> the features that speak against the move
//! target's QEMU: its models, the most it can do --> CpuOffer --'
//! ```
//!
//! Ground rules: what a guest has seen it must go on seeing, so each of its features counts and not only the model's name, which
//! stands for different features in different versions of QEMU. Hosts are not compared with each other, but a guest with a host.
//! Source: qemu, target/i386/cpu.c, `query-cpu-model-expansion` and `query-cpu-definitions`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What a guest sees, in QEMU's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestCpu {
    pub model: String,
    pub features: BTreeSet<String>,
}

/// What a host's QEMU can give to a guest, with the accelerator that guests there get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuOffer {
    /// All that any guest may have.
    pub features: BTreeSet<String>,
    /// Each model that this QEMU knows, with what it would lack here.
    pub models: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    Model,
    /// Never empty.
    Features(Vec<String>),
}

/// `None`: the guest can have its CPU there.
pub fn lack(guest: &GuestCpu, offer: &CpuOffer) -> Option<Lack> {
    let Some(lacking) = offer.models.get(&guest.model) else { return Some(Lack::Model) };
    let seen = guest.features.difference(&offer.features);
    let missing: BTreeSet<&String> = seen.chain(lacking).collect();
    (!missing.is_empty()).then(|| Lack::Features(missing.into_iter().cloned().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_feature_that_a_guest_sees_counts() {
        let offer = CpuOffer {
            features: set(&["aes", "sse2", "svm"]),
            models: [("qemu64", &[][..]), ("EPYC", &["avx2", "sha-ni"])].map(|(m, f)| (m.to_owned(), set(f))).into(),
        };
        let check = |model: &str, features: &[&str], want: Option<Lack>| {
            let guest = GuestCpu { model: model.to_owned(), features: set(features) };
            assert_eq!(lack(&guest, &offer), want, "{guest:?}");
        };
        let features = |names: &[&str]| Some(Lack::Features(names.iter().map(|name| (*name).to_owned()).collect()));
        check("qemu64", &["sse2", "svm"], None);
        check("qemu64", &[], None);
        check("qemu64", &["sse2", "avx512f", "avx2"], features(&["avx2", "avx512f"]));
        // The model has more there than where the guest runs.
        check("EPYC", &["aes"], features(&["avx2", "sha-ni"]));
        check("EPYC", &["aes", "avx2", "pcid"], features(&["avx2", "pcid", "sha-ni"]));
        check("Haswell", &["aes"], Some(Lack::Model));
    }
}
