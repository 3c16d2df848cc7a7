//! The data listener: where other agents' streams come in.
//!
//! Ground rules: mTLS with an agent's certificate, then a hello that names a migration which this agent prepared, with its
//! credential, from the host that was announced as its source. Anything else is refused in words that tell nothing of what
//! exists here. Connections in their handshake are bounded in number and time.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use whimbrel_core::failure::{Failure, FailureCode};
use whimbrel_daemon::{
    pki::PeerIdentity,
    tcp,
    tls::{self, Protocol},
};
use whimbrel_transfer::hello;

use super::Migrations;

/// Streams between accept and their first words.
const GREETING_MAX: usize = 256;

pub async fn serve(migrations: Arc<Migrations>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let context = &migrations.context;
    let config = tls::mutual(&context.identity, &context.ca, Protocol::Data)?;
    let listener = tcp::listen(context.data_address())?;
    let greeting = Arc::new(Semaphore::new(GREETING_MAX));
    loop {
        let (tcp, address) = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a data connection");
                    continue;
                }
            },
        };
        let Ok(permit) = greeting.clone().acquire_owned().await else { return Ok(()) };
        let (migrations, config) = (migrations.clone(), config.clone());
        tokio::spawn(async move {
            if let Err(failure) = greet(&migrations, tcp, address, &config).await {
                tracing::warn!(%address, %failure, "a data connection was refused");
            }
            drop(permit);
        });
    }
}

async fn greet(
    migrations: &Migrations,
    tcp: TcpStream,
    address: SocketAddr,
    config: &Arc<rustls::ServerConfig>,
) -> Result<(), Failure> {
    let refused = |detail: String| Failure::new(FailureCode::Forbidden, detail);
    let mut stream = tls::accept(tcp, address, config).await.map_err(|error| refused(error.to_string()))?;
    let source = tls::peer_identity(&stream).as_ref().and_then(PeerIdentity::agent_host).cloned();
    let hello = hello::receive(&mut stream).await.map_err(|error| error.failure())?;
    let target = source.as_ref().and_then(|source| {
        migrations.target(hello.migration).filter(|target| target.admits(source, &hello.credential))
    });
    let Some(target) = target else {
        let _ = hello::refuse(&mut stream, "no such migration was prepared here").await;
        return Err(refused(format!("{source:?} showed no right to migration {}", hello.migration)));
    };
    hello::accept(&mut stream).await.map_err(|error| error.failure())?;
    target.attach(hello.stream, Box::new(stream)).await
}
