//! Limits of layers, what is refused in which words, and how far a limit can be set.

use super::*;

fn limits(said: &[(Quota, i64)]) -> Limits {
    Limits::of_layers([&said.iter().copied().collect()])
}

fn servers(instances: u64, cores: u64, ram_mb: u64) -> ProjectUse {
    ProjectUse { instances, cores, ram_mb }
}

#[test]
fn the_last_layer_that_says_something_counts() {
    let class = Said::from([(Quota::Cores, 1), (Quota::Ram, 2)]);
    let project = Said::from([(Quota::Ram, UNLIMITED), (Quota::KeyPairs, 0)]);
    let limits = Limits::of_layers([&class, &project, &Said::new()]);
    let check = |quota, want| assert_eq!(limits.of(quota), want, "{quota}");
    check(Quota::Cores, 1);
    check(Quota::Ram, UNLIMITED);
    check(Quota::KeyPairs, 0);
    check(Quota::Instances, 10);
    check(Quota::InjectedFilePathBytes, 255);
}

#[test]
fn a_quota_is_known_by_its_name() {
    for quota in Quota::ALL {
        assert_eq!(quota.name().parse(), Ok(*quota));
    }
    assert!("gigabytes".parse::<Quota>().is_err());
}

#[test]
fn a_refusal_names_what_is_too_much() {
    let check = |said: &[(Quota, i64)], used, wanted, want: Result<(), &str>| {
        let got = super::check(&limits(said), &used, &wanted).map_err(|exceeded| exceeded.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{said:?} {used:?} {wanted:?}");
    };
    check(&[], servers(9, 19, 51_000), servers(1, 1, 200), Ok(()));
    let both = "Quota exceeded for cores, ram: Requested 1, 512, but already used 20, 51200 of 20, 51200 cores, ram";
    check(&[], servers(1, 20, 51_200), servers(1, 1, 512), Err(both));
    let one = "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances";
    check(&[], servers(10, 10, 10), servers(1, 1, 1), Err(one));
    check(&[(Quota::Instances, UNLIMITED)], servers(10, 10, 10), servers(1, 1, 1), Ok(()));
    let none = "Quota exceeded for cores: Requested 1, but already used 0 of 0 cores";
    check(&[(Quota::Cores, 0)], servers(0, 0, 0), servers(1, 1, 1), Err(none));
    // A smaller limit than what is there does not hinder what takes nothing of it.
    check(&[(Quota::Instances, 1)], servers(5, 5, 5), servers(0, 1, 0), Ok(()));
    check(
        &[],
        servers(0, u64::MAX, 0),
        servers(0, u64::MAX, 0),
        Err("Quota exceeded for cores: Requested \
         18446744073709551615, but already used 18446744073709551615 of 20 cores"),
    );
}

#[test]
fn as_many_are_made_as_fit() {
    let each = servers(1, 4, 1_024);
    let check = |said: &[(Quota, i64)], used, least, most, want: Result<u32, &str>| {
        let got = fit(&limits(said), &used, &each, least, most).map_err(|exceeded| exceeded.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{said:?} {used:?} {least}-{most}");
    };
    check(&[], servers(0, 0, 0), 1, 1, Ok(1));
    check(&[], servers(0, 0, 0), 1, 10, Ok(5));
    check(&[(Quota::Cores, UNLIMITED)], servers(3, 12, 0), 1, 20, Ok(7));
    check(&[(Quota::Cores, UNLIMITED), (Quota::Instances, UNLIMITED)], servers(0, 0, 0), 1, 99, Ok(50));
    let unlimited = [(Quota::Cores, -1), (Quota::Instances, -1), (Quota::Ram, -1)];
    check(&unlimited, servers(9, 9, 9), 1, 999, Ok(999));
    let cores = "Quota exceeded for cores: Requested 24, but already used 0 of 20 cores";
    check(&[], servers(0, 0, 0), 6, 6, Err(cores));
    let several =
        "Quota exceeded for cores, instances: Requested 48, 6-12, but already used 0, 0 of 20, 10 cores, instances";
    check(&[], servers(0, 0, 0), 6, 12, Err(several));
    check(
        &[(Quota::Ram, 1_023)],
        servers(0, 0, 0),
        1,
        1,
        Err("Quota exceeded for ram: Requested 1024, but already used 0 \
         of 1023 ram"),
    );
    // Flavors without cores or RAM need only a place.
    assert_eq!(fit(&limits(&[]), &servers(9, 20, 51_200), &servers(1, 0, 0), 1, 5), Ok(1));
}

#[test]
fn one_more_has_room_below_the_limit() {
    let check = |limit, used, want| assert_eq!(has_room(limit, used), want, "{used} of {limit}");
    check(UNLIMITED, u64::MAX, true);
    check(0, 0, false);
    check(1, 0, true);
    check(1, 1, false);
    check(1, 2, false);
}

#[test]
fn a_limit_is_set_between_what_is_used_and_what_there_is() {
    let check = |settable: Settable, limit, want: Result<(), &str>| {
        let got = settable.check(Quota::Cores, limit).map_err(|unsettable| unsettable.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{settable:?} {limit}");
    };
    let used = "Quota limit 4 for cores must be greater than or equal to already used and reserved 5.";
    let above = "Quota limit 9 for cores must be less than or equal to 8.";
    check(Settable::of_project(20, 0, 5), 5, Ok(()));
    check(Settable::of_project(20, 0, 5), 4, Err(used));
    check(Settable::of_project(20, 0, 5), UNLIMITED, Ok(()));
    check(Settable::of_project(20, 5, 0), 4, Err(used));
    check(Settable::of_project(UNLIMITED, 5, 0), 4, Ok(()));
    check(Settable::of_user(20, 12, 0), 8, Ok(()));
    check(Settable::of_user(20, 12, 0), 9, Err(above));
    check(Settable::of_user(20, 12, 5), 4, Err(used));
    check(Settable::of_user(UNLIMITED, 12, 0), UNLIMITED, Ok(()));
    check(Settable::of_user(20, 0, 0), UNLIMITED, Err("Quota limit -1 for cores must be less than or equal to 20."));
    // More was given than there is now: nothing is left, which is not the same as no limit.
    check(Settable::of_user(5, 12, 0), 1, Err("Quota limit 1 for cores must be less than or equal to 0."));
}
