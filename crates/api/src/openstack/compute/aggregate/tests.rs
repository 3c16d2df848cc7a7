//! What of an aggregate is told, and what of a request for one is refused.

use super::{
    super::shape::seen::{admin, names},
    *,
};

#[test]
fn an_aggregate_has_a_uuid_from_2_41_and_content_once_it_exists() {
    let aggregate = Aggregate {
        id: 1,
        uuid: Uuid::from_u128(1),
        name: "rack".into(),
        hosts: vec!["cn1".into()],
        metadata: BTreeMap::from([(ZONE.into(), "z1".into())]),
        created: 0,
        updated: None,
    };
    let base = ["availability_zone", "created_at", "deleted", "deleted_at", "id", "name", "updated_at"];
    let check = |minor, added: &[&str]| {
        let sorted = |more: &[&'static str]| {
            let mut names: Vec<&str> = base.iter().chain(more).copied().chain(added.iter().copied()).collect();
            names.sort_unstable();
            names.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names(&created(&aggregate, &admin(minor))["aggregate"]), sorted(&[]), "2.{minor}");
        let full = sorted(&["hosts", "metadata"]);
        assert_eq!(names(&show(&aggregate, &admin(minor))["aggregate"]), full, "2.{minor}");
        assert_eq!(names(&list(std::slice::from_ref(&aggregate), &admin(minor))["aggregates"][0]), full, "2.{minor}");
    };
    check(1, &[]);
    check(40, &[]);
    check(41, &["uuid"]);
    assert_eq!(show(&aggregate, &admin(1))["aggregate"][ZONE], "z1");
}

#[test]
fn requests_are_read_strictly() {
    let at = Microversion::v2(81);
    let new = |aggregate: Value| parse_create(&json!({ "aggregate": aggregate }), at);
    assert_eq!(new(json!({"name": "a"})), Ok(NewAggregate { name: "a".into(), availability_zone: None }));
    let zoned = NewAggregate { name: "a".into(), availability_zone: Some("z".into()) };
    assert_eq!(new(json!({"name": "a", "availability_zone": "z"})), Ok(zoned));
    for wrong in [
        json!({}),
        json!({"name": " a"}),
        json!({"name": "a", "availability_zone": "z:1"}),
        json!({"name": "a", "id": 1}),
    ] {
        assert!(new(wrong.clone()).is_err(), "{wrong}");
    }
    let update = |aggregate: Value| parse_update(&json!({ "aggregate": aggregate }), at);
    let named = AggregateUpdate { name: Some("a".into()), availability_zone: None };
    assert_eq!(update(json!({"name": " a "})), Ok(named));
    let unzoned = AggregateUpdate { name: None, availability_zone: Some(None) };
    assert_eq!(update(json!({"availability_zone": null})), Ok(unzoned));
    assert!(update(json!({})).is_err() && update(json!({"name": "  "})).is_err());
    let action = |body: Value| parse_action(&body, at);
    assert_eq!(action(json!({"add_host": {"host": "cn1"}})), Ok(AggregateAction::AddHost("cn1".into())));
    assert_eq!(action(json!({"remove_host": {"host": "cn1"}})), Ok(AggregateAction::RemoveHost("cn1".into())));
    let metadata = BTreeMap::from([("k".into(), None), ("l".into(), Some("v".into()))]);
    let set = json!({"set_metadata": {"metadata": {"k": null, "l": "v"}}});
    assert_eq!(action(set), Ok(AggregateAction::SetMetadata(metadata)));
    for wrong in [json!({}), json!({"add_host": {}}), json!({"add_host": {"host": "a b"}}), json!({"add": {}})] {
        assert!(action(wrong.clone()).is_err(), "{wrong}");
    }
    let images = |ids: &[&str]| {
        let cache: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        parse_images(&json!({ "cache": cache }), at)
    };
    let id = "00000000-0000-0000-0000-000000000001";
    assert_eq!(images(&[id]), Ok(vec![Uuid::from_u128(1)]));
    assert!(images(&[]).is_err() && images(&[id, id]).is_err() && images(&["x"]).is_err());
}
