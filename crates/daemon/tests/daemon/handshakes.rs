//! Who comes together with whom, and what each side is told when they do not.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use whimbrel_daemon::{
    clock::Timestamp,
    pki::{CERTIFICATE_LIFETIME, Fingerprint, Identity, JoinToken, PeerIdentity, Role},
    tcp::TcpOptions,
    tls::{self, Connector, Expect, Protocol, Refusal, TlsError},
};

use crate::{Ca, in_time, peer};

const GREETING: &[u8] = b"hello";

/// What each side ended with: the peer that it saw, or all that its error says.
struct Outcome {
    client: Result<(), String>,
    server: Result<Option<PeerIdentity>, String>,
}

fn words(error: TlsError) -> String {
    assert!(!error.hint().is_empty());
    error.to_string()
}

/// Handshake and one greeting each way: with TLS 1.3 a client learns only by reading that it was refused.
async fn meet(server: &Arc<ServerConfig>, client: ClientConfig) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let (tcp, from) = listener.accept().await.unwrap();
        let mut stream = tls::accept(tcp, from, server).await.map_err(words)?;
        stream.write_all(GREETING).await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())?;
        Ok(tls::peer_identity(&stream))
    };
    let connecting = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::IpAddress(address.ip().into());
        let say = |error: std::io::Error| match Refusal::of_io(&error) {
            Some(refusal) => {
                assert!(!refusal.hint().is_empty());
                refusal.to_string()
            }
            None => error.to_string(),
        };
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, tcp).await.map_err(say)?;
        let mut greeting = Vec::new();
        stream.read_to_end(&mut greeting).await.map_err(say)?;
        assert_eq!(greeting, GREETING);
        Ok(())
    };
    let (server, client) = in_time("handshake", async { tokio::join!(accepting, connecting) }).await;
    Outcome { client, server }
}

/// `want_client` and `want_server`: part of the error, or `None` for success.
async fn check(
    case: &str,
    server: &Arc<ServerConfig>,
    client: ClientConfig,
    want_client: Option<&str>,
    want_server: Option<&str>,
) {
    let outcome = meet(server, client).await;
    let fits = |said: Option<&String>, want: Option<&str>| match (said, want) {
        (None, None) => true,
        (Some(said), Some(want)) => said.contains(want),
        (Some(_), None) | (None, Some(_)) => false,
    };
    let (client, server) = (outcome.client.err(), outcome.server.err());
    assert!(fits(client.as_ref(), want_client), "{case}: client says {client:?}, not {want_client:?}");
    assert!(fits(server.as_ref(), want_server), "{case}: server says {server:?}, not {want_server:?}");
}

fn from(client: &Arc<Identity>, ca: &Ca, expect: Expect) -> ClientConfig {
    tls::client_config(client, ca.authority.certificate(), expect, Protocol::Data).unwrap()
}

fn at(server: &Arc<Identity>, ca: &Ca) -> Arc<ServerConfig> {
    tls::mutual(server, ca.authority.certificate(), Protocol::Data).unwrap()
}

const OTHER_CA: &str = "not of this Whimbrel's CA";
const REFUSED: &str = "the peer refuses our certificate";

#[tokio::test]
async fn only_the_expected_peer_of_the_same_ca_is_met() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let (h1, h2) = (ca.identity(Role::Agent, "h1"), ca.identity(Role::Agent, "h2"));
    let exactly = |role, name: &str| Expect::Exactly(peer(role, name));
    let h1_expected = || exactly(Role::Agent, "h1");

    let good = meet(&at(&h1, &ca), from(&h2, &ca, h1_expected())).await;
    assert_eq!((good.client, good.server), (Ok(()), Ok(Some(peer(Role::Agent, "h2")))));

    let fake = stranger.identity(Role::Agent, "h1");
    check("wrong CA of the server", &at(&fake, &ca), from(&h2, &ca, h1_expected()), Some(OTHER_CA), Some("")).await;
    let fake = stranger.identity(Role::Agent, "h2");
    check("wrong CA of the client", &at(&h1, &ca), from(&fake, &ca, h1_expected()), Some(REFUSED), Some(OTHER_CA))
        .await;
    let other = "certificate of agent 'h1' presented where agent 'h3' was expected";
    let h3 = exactly(Role::Agent, "h3");
    check("wrong host", &at(&h1, &ca), from(&h2, &ca, h3), Some(other), Some("")).await;
    let other = "certificate of agent 'h1' presented where controller 'h1' was expected";
    let controller = exactly(Role::Controller, "h1");
    check("wrong role", &at(&h1, &ca), from(&h2, &ca, controller), Some(other), Some("")).await;
    let other = "certificate of agent 'h1' presented where any controller was expected";
    let any = Expect::Any(Role::Controller);
    check("wrong role of any name", &at(&h1, &ca), from(&h2, &ca, any), Some(other), Some("")).await;
    let web = tls::client_config(&h2, ca.authority.certificate(), h1_expected(), Protocol::Http).unwrap();
    check("wrong protocol", &at(&h1, &ca), web, Some("NoApplicationProtocol"), Some("TLS failed")).await;
}

#[tokio::test]
async fn a_certificate_counts_only_in_its_time() {
    let ca = Ca::new();
    let now = Timestamp::now();
    let old = now.minus(CERTIFICATE_LIFETIME + Duration::from_secs(60));
    let coming = now.plus(Duration::from_secs(3600));
    let h1_expected = || Expect::Exactly(peer(Role::Agent, "h1"));
    let (h1, h2) = (ca.identity(Role::Agent, "h1"), ca.identity(Role::Agent, "h2"));
    let made = |name: &str, made| ca.identity_made(Role::Agent, name, made);

    let server = at(&made("h1", old), &ca);
    check("expired server", &server, from(&h2, &ca, h1_expected()), Some("expired at 20"), Some(REFUSED)).await;
    let client = from(&made("h2", old), &ca, h1_expected());
    check("expired client", &at(&h1, &ca), client, Some("it is expired"), Some("expired at 20")).await;
    let server = at(&made("h1", coming), &ca);
    check("server of tomorrow", &server, from(&h2, &ca, h1_expected()), Some("valid only from 20"), Some("")).await;
    let client = from(&made("h2", coming), &ca, h1_expected());
    check("client of tomorrow", &at(&h1, &ca), client, Some(REFUSED), Some("valid only from 20")).await;
    let almost = now.minus(CERTIFICATE_LIFETIME - Duration::from_secs(3600));
    check("last hour", &at(&made("h1", almost), &ca), from(&h2, &ca, h1_expected()), None, None).await;
}

#[tokio::test]
async fn a_client_without_certificate_meets_only_the_controllers_port() {
    let ca = Ca::new();
    let controller = ca.identity(Role::Controller, "c1");
    let trust = ca.authority.certificate();
    let operator = || tls::operator_config(trust).unwrap();
    let mutual = tls::mutual(&controller, trust, Protocol::Http).unwrap();
    check("mutual", &mutual, operator(), Some("we showed none"), Some("showed no certificate")).await;

    let optional = tls::mutual_optional(&controller, trust, Protocol::Http).unwrap();
    let met = meet(&optional, operator()).await;
    assert_eq!((met.client, met.server), (Ok(()), Ok(None)));
    let agent = ca.identity(Role::Agent, "h1");
    let to_controller = |identity| tls::client_config(identity, trust, Expect::Any(Role::Controller), Protocol::Http);
    let met = meet(&optional, to_controller(&agent).unwrap()).await;
    assert_eq!((met.client, met.server), (Ok(()), Ok(Some(peer(Role::Agent, "h1")))));
    // Optional is no leave to show a bad one.
    let fake = Ca::new().identity(Role::Agent, "h1");
    check("fake", &optional, to_controller(&fake).unwrap(), Some(REFUSED), Some(OTHER_CA)).await;
    // An agent's certificate does not make a controller.
    let posing = tls::mutual_optional(&agent, trust, Protocol::Http).unwrap();
    check("agent as controller", &posing, operator(), Some("any controller was expected"), Some("")).await;
}

#[tokio::test]
async fn a_join_token_authenticates_the_first_contact() {
    let ca = Ca::new();
    let trust = ca.authority.certificate();
    let server_of = |ca: &Ca, role| {
        tls::mutual_optional(&ca.identity(role, "c1"), ca.authority.certificate(), Protocol::Http).unwrap()
    };
    let token: JoinToken = JoinToken::generate(trust.fingerprint()).unwrap().to_string().parse().unwrap();
    let join = || tls::join_config(token.ca).unwrap();
    check("our controller", &server_of(&ca, Role::Controller), join(), None, None).await;
    check("another CA", &server_of(&Ca::new(), Role::Controller), join(), Some(OTHER_CA), Some("")).await;
    check("an agent", &server_of(&ca, Role::Agent), join(), Some("any controller was expected"), Some("")).await;
    let other = tls::join_config(Fingerprint::of_der(b"other")).unwrap();
    check("other token", &server_of(&ca, Role::Controller), other, Some(OTHER_CA), Some("")).await;
}

#[tokio::test]
async fn connector_says_what_stands_at_the_address() {
    let ca = Ca::new();
    let connector = Connector {
        identity: ca.identity(Role::Agent, "h2"),
        ca: ca.authority.certificate().clone(),
        protocol: Protocol::Data,
        options: TcpOptions { local: Some("127.0.0.1".parse().unwrap()), bbr: true },
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = at(&ca.identity(Role::Agent, "h1"), &ca);
    let expect = peer(Role::Agent, "h1");
    let accept = async {
        let (tcp, from) = listener.accept().await.unwrap();
        tls::accept(tcp, from, &config).await
    };
    let (accepted, connected) =
        in_time("connect", async { tokio::join!(accept, connector.connect(address, &expect)) }).await;
    assert_eq!(tls::peer_identity(&accepted.unwrap()), Some(peer(Role::Agent, "h2")));
    assert_eq!(tls::peer_identity(&connected.unwrap()), Some(expect.clone()));

    drop(listener);
    let error = connector.connect(address, &expect).await.expect_err("nobody listens");
    assert!(matches!(error, TlsError::Connect { .. }) && error.to_string().contains(&address.to_string()), "{error}");

    let mut elsewhere = connector.clone();
    elsewhere.options.local = Some("192.0.2.1".parse().unwrap());
    let error = elsewhere.connect(address, &expect).await.expect_err("no such local address");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("192.0.2.1") && cause.contains("hint:"), "{cause}");
}

#[tokio::test]
async fn a_renewed_identity_shows_in_the_next_handshake() {
    let ca = Ca::new();
    let h2 = ca.identity(Role::Agent, "h2");
    let old = Timestamp::now().minus(CERTIFICATE_LIFETIME + Duration::from_secs(60));
    let h1 = ca.identity_made(Role::Agent, "h1", old);
    let config = at(&h1, &ca);
    let expect = || Expect::Exactly(peer(Role::Agent, "h1"));
    check("before", &config, from(&h2, &ca, expect()), Some("expired"), Some("")).await;
    let next = ca.authority.issue(&peer(Role::Agent, "h1"), &Default::default(), Timestamp::now()).unwrap();
    h1.replace(&next).unwrap();
    check("after", &config, from(&h2, &ca, expect()), None, None).await;
}
