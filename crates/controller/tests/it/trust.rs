//! Who is let in, and to what.

use std::time::Duration;

use whimbrel_api::{client::ControllerClient, native::Renew};
use whimbrel_core::failure::FailureCode;
use whimbrel_daemon::{
    pki::{Fingerprint, Identity, JoinToken, KeyAndChain, new_signing_request},
    tls,
};

use crate::{
    fake_agent::facts,
    place::{Place, name},
};

fn as_agent(place: &Place, both: &KeyAndChain) -> ControllerClient {
    let identity = Identity::new(both).unwrap();
    let expect = tls::Expect::Any(whimbrel_daemon::pki::Role::Controller);
    let config = tls::client_config(&identity, &place.ca(), expect, tls::Protocol::Http).unwrap();
    ControllerClient::from_tls(&place.url, config).unwrap()
}

#[tokio::test]
async fn a_join_token_lets_one_host_in_once() {
    let place = Place::new().await;
    let token = place.token("h1").await;
    let check = async |token: &JoinToken, host: &str, want: &str| {
        let refused = place.join_by(token, host).await.expect_err(want);
        assert_eq!(refused.code, FailureCode::Unauthorized, "{refused}");
        assert!(refused.detail.contains(want) && refused.hint.is_some(), "{refused}");
    };
    check(&token, "h2", "is for host 'h1'").await;
    place.join_by(&token, "h1").await.unwrap();
    check(&token, "h1", "used already").await;
    check(&JoinToken::generate(place.ca().fingerprint()).unwrap(), "h1", "no join token").await;
    let other = JoinToken::generate(Fingerprint::of_der(b"another CA")).unwrap();
    assert!(place.join_by(&other, "h1").await.is_err(), "a host joined a controller that its token does not name");
}

#[tokio::test]
async fn a_host_speaks_for_itself_only() {
    let place = Place::new().await;
    let both = place.join_by(&place.token("h1").await, "h1").await.unwrap();
    place.join_by(&place.token("h2").await, "h2").await.unwrap();
    let client = as_agent(&place, &both);
    let heartbeat = |host: &str| whimbrel_api::agent::Heartbeat {
        facts: facts(&name(host)),
        control_url: "https://127.0.0.1:1".to_owned(),
        instances: Vec::new(),
    };
    client.heartbeat(&name("h1"), &heartbeat("h1")).await.unwrap();
    for (path, facts) in [("h2", "h2"), ("h1", "h2"), ("h2", "h1")] {
        let refused = client.heartbeat(&name(path), &heartbeat(facts)).await.unwrap_err();
        assert_eq!(refused.code, FailureCode::Forbidden, "{refused}");
    }
    let refused = client.servers().await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Unauthorized, "an agent's certificate is no token");
    let refused = place.client.heartbeat(&name("h1"), &heartbeat("h1")).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Unauthorized, "a token is no agent's certificate");
}

#[tokio::test]
async fn a_certificate_is_renewed_for_its_holder() {
    let place = Place::new().await;
    let both = place.join_by(&place.token("h1").await, "h1").await.unwrap();
    let request = new_signing_request().unwrap();
    let renewed = as_agent(&place, &both).renew(&Renew { csr_pem: request.csr_pem.clone() }).await.unwrap();
    let next = Identity::new(&request.finish(&renewed.certificate_pem).unwrap()).unwrap();
    assert_eq!(next.who().agent_host(), Some(&name("h1")));
    let refused = as_agent(&place, &both).renew(&Renew { csr_pem: "nonsense".to_owned() }).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::BadRequest);
}

#[tokio::test]
async fn operators_need_a_token_that_is_known() {
    let mut place = Place::new().await;
    let ca = place.ca();
    let check = async |place: &Place, token: &str, want: &str| {
        let client = ControllerClient::new(&place.url, ca.pem(), token).unwrap();
        let refused = client.servers().await.expect_err(want);
        assert_eq!(refused.code, FailureCode::Unauthorized);
        assert!(refused.detail.contains(want) && refused.hint.is_some(), "{refused}");
        assert_eq!(client.version().await.unwrap().product, "whimbrel", "anyone may ask what this is");
    };
    check(&place, "hello", "malformed").await;
    check(&place, &"0".repeat(64), "not known").await;
    let path = place.dir.path().join("admin.token");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // The token outlives a restart, and nobody is there in between.
    place.stop().await;
    let down = tokio::time::timeout(Duration::from_secs(20), place.client.servers()).await.unwrap().unwrap_err();
    assert_eq!(down.code, FailureCode::HostDown);
    assert!(down.detail.contains(&place.url) && down.hint.is_some(), "{down}");
    place.start_again().await;
    assert!(place.client.servers().await.unwrap().is_empty());
}
