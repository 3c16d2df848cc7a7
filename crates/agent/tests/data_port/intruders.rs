//! Wrong papers: refused, logged, told nothing, and the prepared migration is as it was.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;
use whimbrel_api::agent::{GiveUp, MigrationReport, SidePhase};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::MigrationId,
};
use whimbrel_daemon::{
    clock::Timestamp,
    pki::{CERTIFICATE_LIFETIME, Identity, PeerIdentity, Role},
    tcp::TcpOptions,
    tls::{Connector, Protocol, TlsStream},
};
use whimbrel_transfer::hello::{self, Hello, PROTOCOL, StreamKind};

use crate::agent::{Agent, CREDENTIAL, Ca, NAME, SOURCE, TIME_MAX, log};

/// The same for all, so that nobody learns which part of the papers was wrong.
const NO_RIGHT: &str = "no such migration was prepared here";
const REFUSED: &str = "a data connection was refused";

pub async fn connect(agent: &Agent, identity: &Arc<Identity>) -> TlsStream {
    let connector = Connector {
        identity: identity.clone(),
        ca: agent.ca.authority.certificate().clone(),
        protocol: Protocol::Data,
        options: TcpOptions::default(),
    };
    let expect = PeerIdentity { role: Role::Agent, name: NAME.parse().unwrap() };
    connector.connect(agent.data, &expect).await.unwrap()
}

pub fn greeting(migration: MigrationId, stream: StreamKind) -> Hello {
    Hello { protocol: PROTOCOL, migration, credential: CREDENTIAL.to_owned(), stream }
}

async fn is_logged(agent: &Agent, address: SocketAddr, words: &str) {
    let line = format!("{REFUSED} address={address}");
    let said = || log().lines().any(|logged| logged.contains(&line) && logged.contains(words));
    agent.until(&format!("'{line}' with '{words}' in the log"), async || said()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_papers_are_refused_logged_and_change_nothing() {
    let agent = Agent::start().await;
    let prepared = agent.prepare().await;
    assert_eq!(prepared.phase, SidePhase::Prepared);
    let held = agent.held();
    let check = async |case: &str, identity: &Arc<Identity>, hello: Hello, told: Option<&str>, logged: &str| {
        let mut stream = connect(&agent, identity).await;
        let address = stream.get_ref().0.get_ref().local_addr().unwrap();
        let error = hello::offer(&mut stream, &hello).await.expect_err(case).to_string();
        assert_eq!(told.is_some(), error.contains(NO_RIGHT), "{case}: the intruder is told {error}");
        is_logged(&agent, address, logged).await;
        assert_eq!(agent.client.migration(prepared.migration).await.unwrap(), prepared, "{case}");
        assert_eq!(agent.held(), held, "{case}");
    };
    let good = || greeting(prepared.migration, StreamKind::Control);
    let source = agent.ca.identity(Role::Agent, SOURCE);
    let now = Timestamp::now();
    let old = now.minus(CERTIFICATE_LIFETIME + Duration::from_secs(60));
    let coming = now.plus(Duration::from_secs(3600));
    let by_time = |at| agent.ca.identity_made(Role::Agent, SOURCE, at);
    check("another CA", &Ca::new().identity(Role::Agent, SOURCE), good(), None, "not of this Whimbrel's CA").await;
    check("expired", &by_time(old), good(), None, "expired at 20").await;
    check("of tomorrow", &by_time(coming), good(), None, "valid only from 20").await;
    let told = Some(NO_RIGHT);
    check("another host", &agent.ca.identity(Role::Agent, "h3"), good(), told, "h3").await;
    check("the target itself", &agent.ca.identity(Role::Agent, NAME), good(), told, NAME).await;
    check("another role", &agent.ca.identity(Role::Controller, SOURCE), good(), told, "None showed no right").await;
    let bad = |credential: &str| Hello { credential: credential.to_owned(), ..good() };
    check("wrong credential", &source, bad("0123456789abcdee"), told, SOURCE).await;
    check("part of the credential", &source, bad(&CREDENTIAL[..8]), told, SOURCE).await;
    check("no credential", &source, bad(""), told, SOURCE).await;
    let unknown = Hello { migration: MigrationId(Uuid::now_v7()), ..good() };
    check("unknown migration", &source, unknown, told, SOURCE).await;

    hello::offer(&mut connect(&agent, &source).await, &good()).await.expect("the source itself is let in");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_hello_is_dropped_and_the_agent_goes_on() {
    let agent = Agent::start().await;
    let prepared = agent.prepare().await;
    let source = agent.ca.identity(Role::Agent, SOURCE);
    let check = async |case: &str, bytes: &[u8], logged: &str| {
        let mut stream = connect(&agent, &source).await;
        let address = stream.get_ref().0.get_ref().local_addr().unwrap();
        stream.write_all(bytes).await.unwrap();
        // It may have hung up by now.
        let _ = stream.shutdown().await;
        is_logged(&agent, address, logged).await;
        // An answer, an end or a reset; not a wait.
        let _ = tokio::time::timeout(TIME_MAX, stream.read(&mut [0; 4096])).await.expect(case);
        assert_eq!(agent.client.migration(prepared.migration).await.unwrap(), prepared, "{case}");
    };
    let framed = |json: &[u8]| [&(json.len() as u32).to_be_bytes()[..], json].concat();
    check("HTTP", b"GET / HTTP/1.1\r\n\r\n", "are allowed").await;
    check("endless", b"\xff\xff\xff\xff", "are allowed").await;
    check("torn", b"\0\0\0\x40{\"proto", "reading hello").await;
    check("nothing", b"", "reading hello").await;
    check("no JSON", &framed(b"{]"), "hello").await;
    let mut other = serde_json::to_value(greeting(prepared.migration, StreamKind::Control)).unwrap();
    other["protocol"] = 77.into();
    check("protocol", &framed(other.to_string().as_bytes()), "protocol 77 is not spoken here").await;

    discard(&agent, &prepared).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_has_ended_takes_no_more_content() {
    let agent = Agent::start().await;
    let prepared = agent.prepare().await;
    let source = agent.ca.identity(Role::Agent, SOURCE);
    discard(&agent, &prepared).await;
    let ended = agent.client.migration(prepared.migration).await.unwrap();
    for kind in [StreamKind::Data(0), StreamKind::Image(0), StreamKind::Ram] {
        let mut stream = connect(&agent, &source).await;
        let address = stream.get_ref().0.get_ref().local_addr().unwrap();
        // Its source may have its papers still.
        hello::offer(&mut stream, &greeting(prepared.migration, kind)).await.unwrap();
        is_logged(&agent, address, "is over: it takes no more data").await;
        let read = tokio::time::timeout(TIME_MAX, stream.read(&mut [0; 64])).await.expect("it was kept");
        assert!(matches!(read, Ok(0) | Err(_)), "{kind:?}: {read:?}");
    }
    assert_eq!(agent.client.migration(prepared.migration).await.unwrap(), ended);
    assert!(agent.held().is_empty(), "{:?}", agent.held());
    agent.stop().await;
}

async fn discard(agent: &Agent, prepared: &MigrationReport) {
    let give_up = GiveUp {
        instance: agent.spec.id,
        epoch: prepared.epoch,
        failure: Failure::new(FailureCode::Cancelled, "the test is over"),
    };
    agent.client.discard(prepared.migration, &give_up).await.unwrap();
    agent.until("nothing left", async || agent.held().is_empty()).await;
}
