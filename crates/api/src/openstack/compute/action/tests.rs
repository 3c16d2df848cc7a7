//! What each action takes, and what it refuses at which version.

use super::{live::BlockMigration, *};
use serde_json::json;

fn check(minor: u16, body: Value, want: Result<Action, &str>) {
    let got = parse(&body, Microversion::v2(minor));
    match (&got, want) {
        (Ok(got), Ok(want)) => assert_eq!(*got, want, "{body} at 2.{minor}"),
        (Err(fault), Err(want)) => {
            assert!(fault.status == 400 && fault.message.contains(want), "{body} at 2.{minor}: {}", fault.message);
        }
        (got, want) => panic!("{body} at 2.{minor}: {got:?} is not {want:?}"),
    }
}

#[test]
fn actions_without_parameters_take_anything() {
    let plain = [
        ("os-start", Action::Start),
        ("os-stop", Action::Stop),
        ("pause", Action::Pause),
        ("unpause", Action::Unpause),
        ("suspend", Action::Suspend),
        ("resume", Action::Resume),
        ("unlock", Action::Unlock),
        ("confirmResize", Action::ConfirmResize),
        ("revertResize", Action::RevertResize),
    ];
    for (name, action) in plain {
        for value in [json!(null), json!({}), json!("x")] {
            check(1, json!({ name: value }), Ok(action.clone()));
        }
    }
}

#[test]
fn a_body_names_one_action() {
    check(1, json!({}), Err("Malformed request body"));
    check(1, json!([]), Err("Malformed request body"));
    check(1, json!(null), Err("Malformed request body"));
    check(1, json!({"pause": null, "unpause": null}), Err("Malformed request body"));
    check(1, json!({"os-explode": null}), Err("There is no such action: os-explode"));
}

#[test]
fn values_are_looked_at_from_their_version() {
    let locked = |reason: Option<&str>| Ok(Action::Lock { reason: reason.map(str::to_owned) });
    check(72, json!({"lock": {"locked_reason": "r"}}), locked(None));
    check(73, json!({"lock": {"locked_reason": "r"}}), locked(Some("r")));
    check(73, json!({"lock": null}), locked(None));
    check(73, json!({"lock": {"reason": "r"}}), Err("('reason' was unexpected)"));
    check(73, json!({"lock": {"locked_reason": ""}}), Err("'' should be non-empty"));
    let to = |host: Option<&str>| Ok(Action::Migrate { host: host.map(str::to_owned) });
    check(55, json!({"migrate": {"host": "cn2"}}), to(None));
    check(56, json!({"migrate": {"host": "cn2"}}), to(Some("cn2")));
    check(56, json!({"migrate": {"host": null}}), to(None));
    check(56, json!({"migrate": null}), to(None));
    check(56, json!({"migrate": {}}), to(None));
    check(56, json!({"migrate": {"node": "cn2"}}), Err("('node' was unexpected)"));
}

#[test]
fn parameters_are_read_strictly() {
    check(1, json!({"reboot": {"type": "SOFT"}}), Ok(Action::Reboot(Reboot::Soft)));
    check(1, json!({"reboot": {"type": "Hard"}}), Ok(Action::Reboot(Reboot::Hard)));
    check(1, json!({"reboot": {"type": "hArd"}}), Err("'hArd' is not one of ['HARD', 'Hard', 'hard', 'SOFT'"));
    check(1, json!({"reboot": {}}), Err("'type' is a required property"));
    check(1, json!({"os-resetState": {"state": "active"}}), Ok(Action::ResetState(ResetTo::Active)));
    check(1, json!({"os-resetState": {"state": "error"}}), Ok(Action::ResetState(ResetTo::Error)));
    check(1, json!({"os-resetState": {"state": "paused"}}), Err("'paused' is not one of ['active', 'error']"));
    let lines = |lines| Ok(Action::ConsoleOutput { lines });
    check(1, json!({"os-getConsoleOutput": {}}), lines(None));
    check(1, json!({"os-getConsoleOutput": {"length": null}}), lines(None));
    check(1, json!({"os-getConsoleOutput": {"length": -1}}), lines(None));
    check(1, json!({"os-getConsoleOutput": {"length": "10"}}), lines(Some(10)));
    check(1, json!({"os-getConsoleOutput": {"length": -2}}), Err("-2 is less than the minimum of -1"));
    check(1, json!({"os-getConsoleOutput": null}), Err("None is not of type 'object'"));
    let image = Action::CreateImage { name: "n".into(), metadata: BTreeMap::from([("k".into(), "v".into())]) };
    check(1, json!({"createImage": {"name": "n", "metadata": {"k": "v"}}}), Ok(image));
    check(1, json!({"createImage": {"name": "n", "metadata": {"k": 1}}}), Err("1 is not of type 'string'"));
    let named = || "web".to_owned();
    check(1, json!({"addSecurityGroup": {"name": "web"}}), Ok(Action::AddSecurityGroup { name: named() }));
    check(1, json!({"removeSecurityGroup": {"name": "web"}}), Ok(Action::RemoveSecurityGroup { name: named() }));
    check(1, json!({"addSecurityGroup": {}}), Err("'name' is a required property"));
    let resized = |disk_config| Ok(Action::Resize { flavor: "2".into(), disk_config });
    check(1, json!({"resize": {"flavorRef": "2"}}), resized(None));
    check(1, json!({"resize": {"flavorRef": 2, "OS-DCF:diskConfig": "AUTO"}}), resized(Some(DiskConfig::Auto)));
    check(1, json!({"resize": {}}), Err("'flavorRef' is a required property"));
}

#[test]
fn an_evacuation_and_a_live_move_go_by_their_version() {
    let plain =
        Evacuation { host: None, admin_pass: None, on_shared_storage: None, forced: false, leave_stopped: false };
    let ok = |evacuation| Ok(Action::Evacuate(evacuation));
    let shared = json!({"evacuate": {"onSharedStorage": "False"}});
    check(13, shared.clone(), ok(Evacuation { on_shared_storage: Some(false), ..plain.clone() }));
    check(14, shared, Err("('onSharedStorage' was unexpected)"));
    check(13, json!({"evacuate": {}}), Err("'onSharedStorage' is a required property"));
    check(13, json!({"evacuate": {"onSharedStorage": true, "adminPass": "x"}}), Err("on existing disk"));
    check(14, json!({"evacuate": {}}), ok(plain.clone()));
    let host = Some("cn2".to_owned());
    let forced = json!({"evacuate": {"host": "cn2", "force": true}});
    check(28, forced.clone(), Err("('force' was unexpected)"));
    check(29, forced.clone(), ok(Evacuation { host: host.clone(), forced: true, ..plain.clone() }));
    check(67, forced.clone(), ok(Evacuation { host, forced: true, ..plain.clone() }));
    check(68, forced, Err("('force' was unexpected)"));
    check(29, json!({"evacuate": {"force": true}}), Err("Can't force to a non-provided destination"));
    check(94, json!({"evacuate": {}}), ok(plain.clone()));
    check(95, json!({"evacuate": {}}), ok(Evacuation { leave_stopped: true, ..plain }));
    let live = parse(&json!({"os-migrateLive": {"host": null, "block_migration": "auto"}}), Microversion::v2(25));
    assert!(matches!(live, Ok(Action::MigrateLive(live)) if live.block_migration == BlockMigration::Auto));
}
