//! The few actions that answer with a body; all others answer with a status alone.
//!
//! Ground rules: where a version has no body the answer is `None`, never an empty object.
//! Source: nova, api/openstack/compute/console_output.py, servers.py, `_action_create_image`, and evacuate.py.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{super::shape::View, Action};

const IMAGE_ID_SINCE: u16 = 45;
const NO_PASSWORD_SINCE: u16 = 14;

/// What is answered to an action that was taken: 202, but for a few.
pub fn status(action: &Action) -> u16 {
    match action {
        Action::ConsoleOutput { .. } | Action::Evacuate(_) => 200,
        Action::ConfirmResize => 204,
        Action::Start
        | Action::Stop
        | Action::Pause
        | Action::Unpause
        | Action::Suspend
        | Action::Resume
        | Action::Unlock
        | Action::RevertResize
        | Action::Lock { .. }
        | Action::Reboot(_)
        | Action::ResetState(_)
        | Action::CreateImage { .. }
        | Action::Resize { .. }
        | Action::Migrate { .. }
        | Action::AddSecurityGroup { .. }
        | Action::RemoveSecurityGroup { .. }
        | Action::MigrateLive(_) => 202,
    }
}

pub fn console_output(output: &str) -> Value {
    json!({ "output": output })
}

/// Where a created image is said to be: in the body from 2.45, in the `Location` header before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageCreated {
    Location(String),
    Body(Value),
}

/// `image_base` is where the images live: `https://host/image/v2`.
pub fn image_created(id: Uuid, image_base: &str, view: &View) -> ImageCreated {
    match view.since(IMAGE_ID_SINCE) {
        true => ImageCreated::Body(json!({ "image_id": id })),
        false => ImageCreated::Location(format!("{image_base}/images/{id}")),
    }
}

pub fn evacuated(admin_pass: Option<&str>, view: &View) -> Option<Value> {
    let told = admin_pass.filter(|_| !view.since(NO_PASSWORD_SINCE));
    told.map(|pass| json!({ "adminPass": pass }))
}

#[cfg(test)]
mod tests {
    use super::{super::super::shape::seen::member, *};

    #[test]
    fn bodies_come_and_go_with_the_version() {
        let id = Uuid::from_u128(1);
        let before = image_created(id, "https://h:1/image/v2", &member(44));
        assert_eq!(before, ImageCreated::Location(format!("https://h:1/image/v2/images/{id}")));
        let after = image_created(id, "https://h:1/image/v2", &member(45));
        assert_eq!(after, ImageCreated::Body(json!({ "image_id": id })));
        assert_eq!(evacuated(Some("secret"), &member(13)), Some(json!({"adminPass": "secret"})));
        assert_eq!(evacuated(Some("secret"), &member(14)), None);
        assert_eq!(evacuated(None, &member(13)), None);
        assert_eq!(console_output("login:"), json!({"output": "login:"}));
    }

    #[test]
    fn a_confirmed_resize_and_what_has_a_body_answer_otherwise() {
        let check = |action: Action, want| assert_eq!(status(&action), want, "{action:?}");
        check(Action::ConfirmResize, 204);
        check(Action::RevertResize, 202);
        check(Action::ConsoleOutput { lines: None }, 200);
        check(Action::Start, 202);
    }
}
