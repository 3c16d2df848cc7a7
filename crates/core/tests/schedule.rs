//! Which hosts a server may be on: each filter alone, with what its refusal says, and which host is best.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use whimbrel_core::{
    disk::Storage,
    failure::FailureCode,
    host::HostFacts,
    id::{HostName, InstanceId, StorageId},
    instance::InstanceSpec,
    schedule::{Candidate, Group, GroupPolicy, Neighbour, Place, Reach, Wanted, Wishes, choose, rank},
};

fn host(name: &str, memory_mb: u64) -> HostFacts {
    serde_json::from_value(json!({
        "name": name, "qemu_version": "7.2.22", "machines": ["pc-q35-7.2"], "cpu_models": ["qemu64"], "accel": "tcg",
        "vcpus": 2, "memory_mb": memory_mb, "memory_mb_used": 0, "reserved_memory_mb": 0, "ram_allocation_ratio": 1.0,
        "disk_total_bytes": 1 << 30, "disk_free_bytes": 1 << 30, "disk_committed_bytes": 0, "bridges": [], "images": [],
        "migration_address": "10.0.0.2:7000", "iothreads_safe": false,
    }))
    .expect("facts")
}

fn server(number: u128) -> InstanceId {
    InstanceId(uuid::Uuid::from_u128(number))
}

fn instance() -> InstanceSpec {
    serde_json::from_value(json!({
        "id": server(1), "name": "server-01", "vcpus": 1, "ram_mb": 512, "machine": "pc-q35-7.2", "cpu_model": "qemu64",
        "disks": [], "nics": [], "boot": "disk", "iothreads": false,
    }))
    .expect("a spec")
}

fn name(text: &str) -> HostName {
    text.parse().expect("a host name")
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

type Why = Option<(FailureCode, &'static [&'static str])>;

fn why(code: FailureCode, words: &'static [&'static str]) -> Why {
    Some((code, words))
}

/// Hosts h1 to h3, of which h1 has most room and h3 least; in `places` those that are no plain hosts.
struct Case {
    places: BTreeMap<&'static str, Place>,
    wishes: Wishes,
}

/// `fit` are the hosts that will do, best first; `why` is said of every other one, by a failure of that code.
fn check(change: impl FnOnce(&mut Case), fit: &str, why: Why) {
    let mut case = Case { places: BTreeMap::new(), wishes: Wishes::default() };
    change(&mut case);
    let (instance, plain) = (instance(), Place::default());
    let hosts = [host("h1", 4096), host("h2", 3072), host("h3", 2048)];
    let candidates = hosts
        .each_ref()
        .map(|host| Candidate { place: case.places.get(host.name.as_str()).unwrap_or(&plain), ..Candidate::new(host) });
    let wanted = Wanted { wishes: &case.wishes, ..Wanted::new(&instance) };
    let ranking = rank(&wanted, &candidates);
    assert_eq!(ranking.fit.iter().map(HostName::as_str).collect::<Vec<_>>().join(" "), fit, "{:?}", ranking.why_not);
    assert_eq!(ranking.why_not.len() + ranking.fit.len(), hosts.len());
    let Some((code, words)) = why else { return assert!(ranking.why_not.is_empty(), "{:?}", ranking.why_not) };
    assert!(!ranking.why_not.is_empty(), "every host will do");
    for not in &ranking.why_not {
        let [reason] = not.reasons.as_slice() else { panic!("one reason expected: {not:?}") };
        assert_eq!(reason.code, code, "{reason:?}");
        assert!(reason.hint.is_some() && reason.detail.contains(not.host.as_str()), "{reason:?}");
        assert!(words.iter().all(|word| reason.detail.contains(word)), "{words:?} are not all in {reason:?}");
    }
    let failure = choose(&wanted, &candidates[1..2]);
    assert_eq!(failure.is_ok(), fit.contains("h2"), "{failure:?}");
}

#[test]
fn what_nobody_wishes_rules_nothing_out() {
    check(|_| {}, "h1 h2 h3", None);
    let unscoped = |case: &mut Case| case.wishes.extra_specs = texts([("hw:cpu_policy", "dedicated"), ("ssd", "true")]);
    check(unscoped, "h1 h2 h3", None);
}

#[test]
fn compute() {
    let place =
        |reach, disabled| Place { reach, disabled, disabled_reason: Some("kernel".to_owned()), ..Place::default() };
    let h2 = |reach, disabled| move |case: &mut Case| drop(case.places.insert("h2", place(reach, disabled)));
    check(h2(Reach::Up, false), "h1 h2 h3", None);
    check(h2(Reach::Up, true), "h1 h3", why(FailureCode::Excluded, &["'h2' is disabled (kernel)"]));
    check(h2(Reach::Silent, false), "h1 h3", why(FailureCode::HostDown, &["does not report"]));
    check(h2(Reach::ForcedDown, false), "h1 h3", why(FailureCode::HostDown, &["declared down"]));
    // Named by an administrator: disabled is no reason then, dead is.
    let named = |reach| {
        move |case: &mut Case| {
            h2(reach, true)(case);
            case.wishes.disabled_too = true;
        }
    };
    check(named(Reach::Up), "h1 h2 h3", None);
    check(named(Reach::ForcedDown), "h1 h3", why(FailureCode::HostDown, &["declared down"]));
}

#[test]
fn hosts_that_are_named() {
    let requested = |case: &mut Case| case.wishes.host = Some(name("h2"));
    check(requested, "h2", why(FailureCode::Excluded, &["not the host 'h2' that server 'server-01'"]));
    let ignored = |case: &mut Case| case.wishes.ignored = BTreeSet::from([name("h1"), name("h3")]);
    check(ignored, "h2", why(FailureCode::Excluded, &["server 'server-01' shall not be on"]));
}

#[test]
fn availability_zone() {
    let in_zone = |asked: &'static str| {
        move |case: &mut Case| {
            case.places.insert("h2", Place { zone: Some("rack-2".to_owned()), ..Place::default() });
            case.wishes.zone = Some(asked.to_owned());
        }
    };
    check(in_zone("rack-2"), "h2", why(FailureCode::Excluded, &["is in availability zone 'nova'", "wants 'rack-2'"]));
    check(in_zone("nova"), "h1 h3", why(FailureCode::Excluded, &["is in availability zone 'rack-2'"]));
    check(in_zone("Nova"), "", why(FailureCode::Excluded, &["wants 'Nova'"]));
}

#[test]
fn aggregate_extra_specs() {
    let specs = |spec: &'static str| {
        move |case: &mut Case| {
            let metadata = [("disk", &["ssd", "nvme"][..]), ("cores", &["8"])];
            let metadata =
                metadata.map(|(key, all)| (key.to_owned(), all.iter().map(|one| (*one).to_owned()).collect()));
            case.places.insert("h2", Place { metadata: metadata.into(), ..Place::default() });
            let key = |name: &str| format!("aggregate_instance_extra_specs:{name}");
            let (name, spec) = spec.split_once(':').expect("a spec");
            case.wishes.extra_specs = texts([(key(name).as_str(), spec)]);
        }
    };
    check(specs("disk:nvme"), "h2", why(FailureCode::Excluded, &["'disk' to be 'nvme'", "have nothing"]));
    check(specs("disk:<or> hdd <or> ssd"), "h2", why(FailureCode::Excluded, &["have nothing"]));
    check(specs("cores:>= 4"), "h2", why(FailureCode::Excluded, &["have nothing"]));
    check(specs("cores:>= 16"), "", why(FailureCode::Excluded, &["'cores' to be '>= 16'"]));
    check(specs("colour:red"), "", why(FailureCode::Excluded, &["have nothing"]));
}

#[test]
fn server_group() {
    let group = |policy| {
        move |case: &mut Case| {
            let others = BTreeMap::from([(name("h1"), 1), (name("h2"), 2)]);
            case.wishes.group = Some(Group { name: "pair".to_owned(), policy, others });
        }
    };
    let anti = |max_server_per_host| group(GroupPolicy::AntiAffinity { max_server_per_host });
    check(
        anti(1),
        "h3",
        why(FailureCode::Excluded, &["other servers of group 'pair'", "at most 1 may be on one host"]),
    );
    check(anti(2), "h1 h3", why(FailureCode::Excluded, &["has 2 other servers", "at most 2"]));
    check(anti(3), "h1 h2 h3", None);
    check(
        group(GroupPolicy::Affinity),
        "h1 h2",
        why(FailureCode::Excluded, &["has no server of group 'pair'", "on h1, h2"]),
    );
    check(group(GroupPolicy::SoftAffinity), "h2 h1 h3", None);
    check(group(GroupPolicy::SoftAntiAffinity), "h3 h1 h2", None);
    let first = |policy| {
        move |case: &mut Case| {
            case.wishes.group = Some(Group { name: "pair".to_owned(), policy, others: BTreeMap::new() })
        }
    };
    for policy in
        [GroupPolicy::Affinity, GroupPolicy::AntiAffinity { max_server_per_host: 1 }, GroupPolicy::SoftAffinity]
    {
        check(first(policy), "h1 h2 h3", None);
    }
}

#[test]
fn hints() {
    let at = |number, host: &str| Neighbour { server: server(number), host: name(host) };
    let different = |case: &mut Case| case.wishes.different_from = vec![at(7, "h1"), at(8, "h9")];
    check(different, "h2 h3", why(FailureCode::Excluded, &["00000007 is on host 'h1'", "a different one"]));
    let same = |case: &mut Case| case.wishes.same_as = vec![at(7, "h3"), at(8, "h9")];
    check(same, "h3", why(FailureCode::Excluded, &["none of the servers", "on host 'h3' or 1 others"]));
}

/// h1 has most room; h3 sees the server's disks where they are.
#[test]
fn disks_that_both_hosts_see() {
    let storage = |number| Some(StorageId(uuid::Uuid::from_u128(number)));
    let source = HostFacts { storage: storage(1), ..host("h0", 4096) };
    let hosts = [
        host("h1", 4096),
        HostFacts { storage: storage(2), ..host("h2", 3072) },
        HostFacts { storage: storage(1), ..host("h3", 2048) },
    ];
    let instance = instance();
    let check = |source: Option<&HostFacts>, wished: Option<Storage>, fit: &str, why: &str| {
        let wishes = Wishes { storage: wished, ..Wishes::default() };
        let wanted = Wanted { wishes: &wishes, source, ..Wanted::new(&instance) };
        let ranking = rank(&wanted, &hosts.each_ref().map(Candidate::new));
        let fits: Vec<_> = ranking.fit.iter().map(HostName::as_str).collect();
        assert_eq!(fits.join(" "), fit, "{:?}", ranking.why_not);
        for reason in ranking.why_not.iter().flat_map(|not| &not.reasons) {
            assert_eq!((reason.code, reason.detail.as_str()), (FailureCode::Excluded, why));
            assert!(reason.hint.is_some());
        }
    };
    check(Some(&source), None, "h3 h1 h2", "");
    check(
        Some(&source),
        Some(Storage::Local),
        "h1 h2",
        "h0 is not on local storage: Block migration can not be used with shared storage.",
    );
    check(
        Some(&source),
        Some(Storage::Shared),
        "h3",
        "h0 is not on shared storage: Shared storage live-migration requires either shared storage or \
         boot-from-volume with no local disks.",
    );
    // A new server has no disks yet.
    check(None, Some(Storage::Shared), "h1 h2 h3", "");
}

#[test]
fn every_reason_is_told_and_room_is_looked_at_too() {
    let (mut instance, wishes) = (instance(), Wishes { host: Some(name("h9")), ..Wishes::default() });
    instance.ram_mb = 9_000;
    let place = Place { disabled: true, ..Place::default() };
    let host = host("h1", 4096);
    let candidate = Candidate { place: &place, ..Candidate::new(&host) };
    let ranking = rank(&Wanted { wishes: &wishes, ..Wanted::new(&instance) }, &[candidate]);
    let codes: Vec<FailureCode> = ranking.why_not[0].reasons.iter().map(|reason| reason.code).collect();
    assert_eq!(codes, [FailureCode::Excluded, FailureCode::Excluded, FailureCode::NoRam]);
}
