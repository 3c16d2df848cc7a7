//! The accept loop: requests know who asks; slow and surplus peers do no harm; shutdown lets requests end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router, routing::get};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use whimbrel_daemon::{
    pki::Role,
    serve::{Peer, ServeLimits, serve},
    tcp,
    tls::{self, Expect, Protocol},
};

use crate::{Ca, in_time};

struct Server {
    ca: Ca,
    address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

async fn who(Extension(peer): Extension<Peer>) -> String {
    assert!(peer.address.ip().is_loopback());
    peer.identity.map_or("nobody".to_owned(), |identity| identity.to_string())
}

impl Server {
    fn start(limits: ServeLimits) -> Self {
        let ca = Ca::new();
        let controller = ca.identity(Role::Controller, "c1");
        let config = tls::mutual_optional(&controller, ca.authority.certificate(), Protocol::Http).unwrap();
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (inside, leave) = (entered.clone(), release.clone());
        let slow = move || async move {
            inside.notify_one();
            leave.notified().await;
            "done"
        };
        let router = Router::new().route("/who", get(who)).route("/slow", get(slow));
        let listener = tcp::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, config, router, limits, shutdown.clone()));
        Server { ca, address, shutdown, served, entered, release }
    }

    fn operator(&self) -> ClientConfig {
        tls::operator_config(self.ca.authority.certificate()).unwrap()
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut config = self.operator();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::IpAddress(self.address.ip().into());
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }
}

/// All until the server closes; a reset is a close too.
async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = in_time("close", stream.read_to_end(&mut bytes)).await {
        assert!(
            matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset),
            "{error}"
        );
    }
    String::from_utf8(bytes).unwrap()
}

async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: c1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_request_knows_who_asks_over_both_versions_of_http() {
    let server = Server::start(ServeLimits::default());
    let agent = server.ca.identity(Role::Agent, "h1");
    let trust = server.ca.authority.certificate();
    let as_agent = tls::client_config(&agent, trust, Expect::Any(Role::Controller), Protocol::Http).unwrap();
    let url = format!("https://{}/who", server.address);
    for (config, want) in [(server.operator(), "nobody"), (as_agent, "agent 'h1'")] {
        let client = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap();
        let answer = in_time("request", client.get(&url).send()).await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        assert_eq!(answer.text().await.unwrap(), want);
    }
    let mut stream = server.connect().await;
    ask(&mut stream, "/who").await;
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("nobody"), "{answer}");
}

#[tokio::test]
async fn a_slow_peer_is_dropped_before_and_after_its_handshake() {
    let short = Duration::from_millis(100);
    let limits = ServeLimits { handshake_time_max: short, header_time_max: short, ..ServeLimits::default() };
    let server = Server::start(limits);
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_all(&mut silent).await, "", "no handshake");
    let mut silent = server.connect().await;
    assert_eq!(read_all(&mut silent).await, "", "no request");
    let mut halting = server.connect().await;
    halting.write_all(b"GET /who HTTP/1.1\r\nHost: c1\r\n").await.unwrap();
    let answer = read_all(&mut halting).await;
    assert!(!answer.contains("200 OK"), "half a header was answered: {answer}");
    let mut swift = server.connect().await;
    ask(&mut swift, "/who").await;
    assert!(read_all(&mut swift).await.contains("200 OK"), "a peer in time is served");
}

#[tokio::test]
async fn connections_are_bounded() {
    let server = Server::start(ServeLimits { connections_max: 1, ..ServeLimits::default() });
    let mut first = server.connect().await;
    ask(&mut first, "/slow").await;
    in_time("first request", server.entered.notified()).await;
    let second = async {
        let mut second = server.connect().await;
        ask(&mut second, "/who").await;
        read_all(&mut second).await
    };
    let mut second = std::pin::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(100), second.as_mut()).await;
    assert!(early.is_err(), "a second connection was served beside the first");
    server.release.notify_one();
    assert!(read_all(&mut first).await.ends_with("done"));
    assert!(in_time("second request", second).await.ends_with("nobody"));
}

#[tokio::test]
async fn shutdown_lets_a_running_request_end_and_cuts_it_off_after_the_grace() {
    for (grace, want_answer) in [(Duration::from_secs(60), true), (Duration::from_millis(50), false)] {
        let server = Server::start(ServeLimits { grace, ..ServeLimits::default() });
        let mut idle = server.connect().await;
        let mut stream = server.connect().await;
        ask(&mut stream, "/slow").await;
        in_time("request", server.entered.notified()).await;
        server.shutdown.cancel();
        assert_eq!(read_all(&mut idle).await, "", "an idle connection ends at once");
        if want_answer {
            server.release.notify_one();
        }
        assert_eq!(read_all(&mut stream).await.ends_with("done"), want_answer);
        in_time("end of serving", server.served).await.unwrap().unwrap();
        assert!(TcpStream::connect(server.address).await.is_err(), "still listening");
    }
}
