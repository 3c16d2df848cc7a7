//! Connections to the target's agent: one control stream, N data streams, and later one for RAM.
//!
//! Ground rules: every stream is mTLS with the target's own certificate and shows the migration's credential; the reader
//! turns the target's words into events of the machine and keeps the rest for the copy.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    migration::source::Event,
};
use whimbrel_daemon::{pki::PeerIdentity, tls::TlsStream};
use whimbrel_transfer::{
    Stream,
    hello::{self, Hello, PROTOCOL, StreamKind},
    link::{ControlLink, ControlReceiver},
};

use super::road::{Link, REPLIES_MAX, Road};
use crate::{
    fault::chain,
    migrate::link::{FromTarget, Message},
};

/// Opens control and data streams. A link that was there is dropped.
pub async fn connect(road: &Arc<Road>) -> Result<(), Failure> {
    let control = open(road, StreamKind::Control).await?;
    let streams = if road.ask.storage.is_shared() { 0 } else { road.ask.options.streams };
    let data = try_join_all((0..streams).map(|at| open(road, StreamKind::Data(at)))).await?;
    install(road, control, data).await;
    Ok(())
}

/// Only the control stream: to say COMMIT again after the link was lost.
pub async fn reconnect(road: &Arc<Road>) -> Result<(), Failure> {
    let control = open(road, StreamKind::Control).await?;
    install(road, control, Vec::new()).await;
    let _ = road.events.send(Event::LinkUp).await;
    Ok(())
}

async fn install(road: &Arc<Road>, control: TlsStream, data: Vec<TlsStream>) {
    let ControlLink { sender, receiver } = ControlLink::start(control);
    let (replies, inbox) = mpsc::channel(REPLIES_MAX);
    let reader = tokio::spawn(read(road.clone(), receiver, replies));
    let data = data.into_iter().map(|stream| Box::new(stream) as Stream).collect();
    *road.link.lock().await = Some(Link { control: sender, data, reader });
    *road.replies.lock().await = Some(inbox);
}

pub async fn open(road: &Road, stream: StreamKind) -> Result<TlsStream, Failure> {
    let target = &road.ask.target;
    let address: SocketAddr = road.ask.target_address.parse().map_err(|_| {
        let detail =
            format!("host {target} has the migration address '{}', which is no IP:port", road.ask.target_address);
        Failure::new(FailureCode::BadRequest, detail).hint("set data_listen in that agent's configuration")
    })?;
    let connector = road.context.data_connector();
    let peer = PeerIdentity::agent(target.clone());
    let mut connection = connector.connect(address, &peer).await.map_err(|error| {
        Failure::new(FailureCode::PeerLost, format!("no data connection to host {target}: {}", chain(&error)))
            .hint(error.hint())
    })?;
    let hello =
        Hello { protocol: PROTOCOL, migration: road.ask.migration, credential: road.ask.credential.clone(), stream };
    let asked = Instant::now();
    hello::offer(&mut connection, &hello).await.map_err(|error| error.failure())?;
    road.meter.round_trip(asked.elapsed());
    Ok(connection)
}

async fn read(road: Arc<Road>, mut receiver: ControlReceiver<Message>, replies: mpsc::Sender<FromTarget>) {
    loop {
        match receiver.recv().await {
            Ok(Some(Message::Target(message))) => {
                if deliver(&road, &replies, message).await.is_err() {
                    return;
                }
            }
            Ok(Some(Message::Source(_))) => break,
            Ok(None) => break,
            Err(error) => {
                tracing::info!(migration = %road.ask.migration, %error, "link lost");
                break;
            }
        }
    }
    let _ = road.events.send(Event::LinkLost).await;
}

async fn deliver(road: &Road, replies: &mpsc::Sender<FromTarget>, message: FromTarget) -> Result<(), ()> {
    match message {
        FromTarget::Word(envelope) => {
            if !envelope.fits(road.ask.migration, road.ask.epoch) {
                return Ok(());
            }
            road.events.send(envelope.body.event()).await.map_err(drop)
        }
        FromTarget::Receipt(receipt) => {
            road.meter.target_says(receipt);
            Ok(())
        }
        FromTarget::Failed { failure } => road.events.send(Event::Failed { failure }).await.map_err(drop),
        FromTarget::QemuReady => {
            road.qemu_ready.send_replace(true);
            Ok(())
        }
        FromTarget::ImagesDurable => {
            road.images_durable.send_replace(true);
            Ok(())
        }
        reply @ (FromTarget::WantImages { .. }
        | FromTarget::Waiting
        | FromTarget::Accept { .. }
        | FromTarget::RoundDone { .. }) => {
            // A full queue means that the target talks out of turn: the copy would refuse it anyway.
            let _ = replies.try_send(reply);
            Ok(())
        }
    }
}
