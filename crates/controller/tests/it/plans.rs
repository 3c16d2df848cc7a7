//! Plans of moves and of new servers: every host with what speaks for and against it, and the guest's CPU asked of the targets.

use std::{collections::BTreeSet, sync::Arc};

use whimbrel_api::native::{HostVerdict, NewMigration, NewServer, Plan};
use whimbrel_core::{
    cpu::{CpuOffer, GuestCpu},
    failure::FailureCode,
};

use crate::{
    fake_agent::{FakeAgent, Told},
    place::{Place, until},
};

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn guest(features: &[&str]) -> Option<GuestCpu> {
    Some(GuestCpu { model: "qemu64".to_owned(), features: set(features) })
}

fn offer(features: &[&str]) -> Option<CpuOffer> {
    Some(CpuOffer { features: set(features), models: [("qemu64".to_owned(), BTreeSet::new())].into() })
}

fn to(host: &str) -> NewMigration {
    NewMigration { host: Some(host.to_owned()), ..NewMigration::default() }
}

fn of<'a>(hosts: &'a [HostVerdict], host: &str) -> &'a HostVerdict {
    hosts.iter().find(|verdict| verdict.host.as_str() == host).unwrap_or_else(|| panic!("no {host} in {hosts:?}"))
}

/// Server `s1` on h1; h2 with less room than h3.
async fn three() -> (Place, [Arc<FakeAgent>; 3]) {
    let (place, h1, h2, _) = Place::with_server().await;
    let h3 = place.host_that("h3", |told: &mut Told| told.facts.as_mut().unwrap().memory_mb = 8192).await;
    (place, [h1, h2, h3])
}

async fn planned(place: &Place, wanted: impl Fn(&Plan) -> bool) -> Plan {
    until("the plan", async || place.client.plan("s1", &NewMigration::default()).await.ok().filter(|plan| wanted(plan)))
        .await
}

#[tokio::test]
async fn every_host_is_told_with_its_numbers() {
    let (place, [_h1, h2, h3]) = three().await;
    let plan = planned(&place, |plan| plan.target.as_ref().is_some_and(|target| target.as_str() == "h3")).await;
    let names: Vec<_> = plan.hosts.iter().map(|verdict| verdict.host.as_str()).collect();
    assert_eq!(names, ["h3", "h2"], "best first, and not where it is");
    let h3_told = of(&plan.hosts, "h3");
    let room = h3_told.room.unwrap();
    assert_eq!((h3_told.reasons.len(), room.ram_mb, room.ram_free_mb), (0, 512, 8192 - 512));
    assert!(room.disk_bytes > 0 && room.disk_free_bytes == 60 << 30, "{room:?}");
    let weights: Vec<_> = h3_told.weights.iter().map(|weight| (weight.name.as_str(), weight.value)).collect();
    assert_eq!(weights, [("server_group", 0), ("free_ram_mb", 8192 - 512), ("free_disk_bytes", 60 << 30)]);

    h2.told().facts.as_mut().unwrap().memory_mb = 700;
    let plan = planned(&place, |plan| !of(&plan.hosts, "h2").reasons.is_empty()).await;
    let h2_told = of(&plan.hosts, "h2");
    assert_eq!((h2_told.reasons[0].code, h2_told.weights.len()), (FailureCode::NoRam, 0));
    assert!(h2_told.reasons[0].detail.contains("188 MiB of RAM free"), "{h2_told:?}");
    assert_eq!(h2_told.room.unwrap().ram_free_mb, 188);

    let named = place.client.plan("s1", &to("h1")).await.unwrap();
    assert_eq!(of(&named.hosts, "h1").reasons[0].code, FailureCode::SameHost);
    h3.stop();
    let plan = planned(&place, |plan| of(&plan.hosts, "h3").room.is_none()).await;
    assert_eq!(of(&plan.hosts, "h3").reasons[0].code, FailureCode::HostDown);
    assert!(plan.target.is_none() && plan.reasons.iter().any(|reason| reason.code == FailureCode::NoHost), "{plan:?}");
    assert!(place.client.migrations().await.unwrap().is_empty() && h2.told().receives.is_empty());
}

#[tokio::test]
async fn a_new_server_is_planned_and_not_made() {
    let (place, [h1, ..]) = three().await;
    let new = |host: Option<&str>, flavor: &str| -> NewServer {
        let new =
            serde_json::json!({"name": "s2", "flavor": flavor, "image": "debian", "host": host, "networks": ["br0"]});
        serde_json::from_value(new).unwrap()
    };
    let hosts = place.client.plan_server(&new(None, "small")).await.unwrap();
    let names: Vec<_> = hosts.iter().map(|verdict| verdict.host.as_str()).collect();
    assert_eq!((names[0], hosts.len()), ("h3", 3), "{hosts:?}");
    assert!(hosts.iter().all(|verdict| verdict.reasons.is_empty() && verdict.room.is_some()), "{hosts:?}");
    assert_eq!(place.client.plan_server(&new(Some("h2"), "small")).await.unwrap().len(), 1);
    place.flavor("huge", 5000, 1).await;
    let hosts = place.client.plan_server(&new(None, "huge")).await.unwrap();
    let told: Vec<_> = hosts.iter().map(|verdict| (verdict.host.as_str(), verdict.reasons.len())).collect();
    assert_eq!((told[0], told.len()), (("h3", 0), 3), "{told:?}");
    assert!(hosts[1..].iter().all(|verdict| verdict.reasons[0].code == FailureCode::NoRam), "{hosts:?}");
    let refused = place.client.plan_server(&new(Some("h9"), "small")).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::NotFound);
    assert_eq!(place.client.servers().await.unwrap().len(), 1, "a plan made a server");
    assert_eq!(h1.told().guests.len(), 1);
}

#[tokio::test]
async fn a_guest_keeps_every_feature_of_its_cpu() {
    let (place, [h1, h2, h3]) = three().await;
    planned(&place, |plan| plan.target.as_ref().is_some_and(|target| target.as_str() == "h3")).await;
    h1.told().guest_cpu = guest(&["aes", "avx2", "sse2"]);
    // The best host lacks one, the other agent is older than the question.
    h3.told().cpu_offer = offer(&["aes", "sse2"]);
    let plan = place.client.plan("s1", &NewMigration::default()).await.unwrap();
    assert_eq!(plan.target.as_ref().map(|target| target.as_str()), Some("h2"));
    let reason = &of(&plan.hosts, "h3").reasons[0];
    let want = "QEMU 7.2.22 with 'tcg' on host 'h3' cannot give server 's1' these features of its CPU 'qemu64': avx2";
    assert_eq!((reason.code, reason.detail.as_str()), (FailureCode::Incompatible, want));
    assert!(reason.hint.is_some());
    let refused = place.client.migrate("s1", &to("h3")).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Incompatible);
    assert!(refused.detail.contains("'qemu64': avx2"), "{refused}");

    // A model that its QEMU does not know, and one that has more there than it can give.
    h2.told().cpu_offer = Some(CpuOffer { features: set(&["aes", "avx2", "sse2"]), ..CpuOffer::default() });
    let refused = place.client.migrate("s1", &to("h2")).await.unwrap_err();
    assert!(refused.detail.contains("does not know CPU model 'qemu64'"), "{refused}");
    let lacking = [("qemu64".to_owned(), set(&["svm"]))].into();
    h2.told().cpu_offer = Some(CpuOffer { features: set(&["aes", "avx2", "sse2"]), models: lacking });
    let refused = place.client.migrate("s1", &NewMigration::default()).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::NoHost);
    for part in ["'qemu64': svm", "'qemu64': avx2"] {
        assert!(refused.detail.contains(part), "{refused}");
    }
    assert!(place.client.migrations().await.unwrap().is_empty(), "a refused move was begun");
    assert!(h2.told().receives.is_empty() && h3.told().receives.is_empty());

    // A move asks the best host first, and no other if that one will do.
    h3.told().cpu_offer = offer(&["aes", "avx2", "sse2", "pcid"]);
    let before = h2.told().cpu_asks;
    let begun = place.client.migrate("s1", &NewMigration::default()).await.unwrap();
    assert_eq!((begun.target.as_str(), h2.told().cpu_asks), ("h3", before));
}
