//! The CA's files, what it signs, and renewal.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, SanType};
use tokio_util::sync::CancellationToken;
use whimbrel_daemon::{
    clock::Timestamp,
    pki::{
        Authority, CERTIFICATE_LIFETIME, CaCert, Identity, KeyAndChain, Names, PkiError, Role, new_signing_request,
        renewal::{self, Pace},
    },
};

use crate::{Ca, in_time, peer};

#[test]
fn the_ca_is_made_once_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let open = || Authority::open(&state, Timestamp::now());
    let made = open().unwrap().certificate().clone();
    assert_eq!(open().unwrap().certificate(), &made);
    assert_eq!(CaCert::load(&state.join("ca.crt")).unwrap(), made);
    assert_eq!(fs::metadata(state.join("ca.key")).unwrap().permissions().mode() & 0o777, 0o600);

    // A start that died between key and certificate.
    fs::remove_file(state.join("ca.crt")).unwrap();
    let again = open().unwrap().certificate().clone();
    assert_ne!(again.fingerprint(), made.fingerprint());

    fs::remove_file(state.join("ca.key")).unwrap();
    let error = open().expect_err("key missing");
    assert!(matches!(error, PkiError::KeyMissing { .. }) && error.to_string().contains("hint:"), "{error}");
    assert!(!state.join("ca.key").exists(), "a new CA was made behind the operator's back");

    fs::write(state.join("ca.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(open(), Err(PkiError::KeyMismatch { .. })));
    fs::write(state.join("ca.key"), "rubbish").unwrap();
    assert!(matches!(open(), Err(PkiError::BadPem { .. })));
}

#[test]
fn a_request_brings_nothing_but_its_key() {
    let ca = Ca::new();
    let now = Timestamp::now();
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI("whimbrel://controller/c1".try_into().unwrap()));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let sly = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let names = Names { dns: vec!["h1.example".to_owned()], addresses: vec!["192.0.2.7".parse().unwrap()] };
    let issued = ca.authority.sign(&sly, &peer(Role::Agent, "h1"), &names, now).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(issued.chain_pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    assert!(!certificate.is_ca());
    let names = format!("{:?}", certificate.subject_alternative_name().unwrap().unwrap().value.general_names);
    assert!(names.contains("whimbrel://agent/h1") && names.contains("h1.example"), "{names}");
    assert!(!names.contains("evil") && !names.contains("controller"), "{names}");
    assert_eq!(certificate.raw_serial_as_string().replace(':', ""), issued.serial);
    assert_eq!(certificate.validity().not_after.timestamp(), now.plus(CERTIFICATE_LIFETIME).unix_s());

    let check = |csr: &str, want: &str| {
        let error = ca.authority.sign(csr, &peer(Role::Agent, "h1"), &Names::default(), now).expect_err(want);
        assert!(matches!(error, PkiError::BadRequest { .. }) && error.to_string().contains(want), "{error}");
    };
    let strong = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    check(&CertificateParams::default().serialize_request(&strong).unwrap().pem().unwrap(), "not ECDSA P-256");
    check("rubbish", "refused");
    check(&"x".repeat(100_000), "larger than");
    let signed = new_signing_request().unwrap().csr_pem;
    let line = signed.lines().nth(2).unwrap();
    let swapped: String = line.chars().rev().collect();
    check(&signed.replace(line, &swapped), "refused");
}

#[test]
fn an_identity_is_kept_whole_and_private() {
    let ca = Ca::new();
    let (h1, now) = (peer(Role::Agent, "h1"), Timestamp::now());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.pem");
    assert_eq!(KeyAndChain::load(&path).unwrap(), None);
    let request = new_signing_request().unwrap();
    let issued = ca.authority.sign(&request.csr_pem, &h1, &Names::default(), now).unwrap();
    let both = request.finish(&issued.chain_pem).unwrap();
    both.save(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let loaded = KeyAndChain::load(&path).unwrap().expect("saved");
    assert_eq!(loaded, both);
    assert!(!format!("{loaded:?}").contains("PRIVATE"));
    let identity = Identity::new(&loaded).unwrap();
    assert_eq!((identity.who(), identity.serial()), (h1, issued.serial));
    assert_eq!(identity.not_after().unix_s(), issued.not_after.unix_s());
    let due = identity.renew_at().since(now).as_secs_f64() / CERTIFICATE_LIFETIME.as_secs_f64();
    assert!((0.66..0.67).contains(&due), "renewal is due after {due} of the lifetime");

    let other = new_signing_request().unwrap().finish(&issued.chain_pem);
    assert!(matches!(other, Err(PkiError::Unusable { .. })), "a certificate of another key was taken");
    let empty = new_signing_request().unwrap().finish("");
    assert!(matches!(empty, Err(PkiError::BadPem { .. })), "no certificate was taken");
}

#[tokio::test]
async fn renews_when_due_and_goes_on_asking() {
    let ca = Ca::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.pem");
    let now = Timestamp::now();
    let due = now.minus(CERTIFICATE_LIFETIME * 3 / 4);
    let identity = ca.identity_made(Role::Agent, "h1", due);
    let old = identity.serial();
    let asked = AtomicUsize::new(0);
    let seen = Mutex::new(Vec::new());
    let shutdown = CancellationToken::new();
    let ask = |csr: String| {
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        seen.lock().unwrap().push(identity.serial());
        let chain = |name, made| ca.authority.sign(&csr, &peer(Role::Agent, name), &Names::default(), made);
        let answer = match turn {
            0 => Err("the controller is away".to_owned()),
            1 => Ok(chain("h2", now).unwrap().chain_pem),
            2 => Ok(chain("h1", due).unwrap().chain_pem),
            3 => Ok("rubbish".to_owned()),
            _ => {
                shutdown.cancel();
                Ok(chain("h1", now).unwrap().chain_pem)
            }
        };
        std::future::ready(answer)
    };
    let brief = Duration::from_millis(1);
    let pace = Pace { look_every: brief, retry_first: brief, retry_max: brief };
    let run = renewal::keep_renewed_at(&pace, identity.clone(), &path, shutdown.clone(), ask);
    in_time("renewal", run).await;
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    assert!(seen.lock().unwrap().iter().all(|serial| *serial == old), "a bad certificate was put to use");
    assert_ne!(identity.serial(), old);
    let kept = Identity::new(&KeyAndChain::load(&path).unwrap().expect("saved")).unwrap();
    assert_eq!(kept.serial(), identity.serial());
}
