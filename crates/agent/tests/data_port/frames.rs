//! Right papers and wrong frames: the migration ends with an error that names the place, nothing of it is left, and the
//! agent takes the next one.

use tokio::io::AsyncWriteExt;
use whimbrel_agent::migrate::link::{FromSource, FromTarget, Message, Offer, OfferedDisk};
use whimbrel_api::agent::{GiveUp, MigrationReport, SidePhase};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    migration::message::{Envelope, ToSource, ToTarget},
};
use whimbrel_daemon::{pki::Role, tls::TlsStream};
use whimbrel_transfer::{
    frame::{Header, Kind},
    hello::{self, StreamKind},
    link::ControlLink,
    totals::DiskTotals,
};

use crate::{
    agent::{Agent, DISK_BYTES, OWNED_BY_SOURCE, SOURCE, TIME_MAX},
    intruders::{connect, greeting},
};

const CHUNK_BYTES: usize = 64 << 10;

/// A source whose disks were accepted: the data stream is open, round 0 has begun.
struct Forged {
    migration: MigrationReport,
    control: ControlLink<Message>,
    data: TlsStream,
}

async fn open(agent: &Agent, migration: &MigrationReport, stream: StreamKind) -> TlsStream {
    let mut opened = connect(agent, &agent.ca.identity(Role::Agent, SOURCE)).await;
    hello::offer(&mut opened, &greeting(migration.migration, stream)).await.unwrap();
    opened
}

impl Forged {
    async fn begin(agent: &Agent) -> Forged {
        let migration = agent.prepare().await;
        assert_eq!(migration.phase, SidePhase::Prepared, "{migration:?}");
        let control = ControlLink::start(open(agent, &migration, StreamKind::Control).await);
        let data = open(agent, &migration, StreamKind::Data(0)).await;
        let mut forged = Forged { migration, control, data };
        let (migration, epoch) = (forged.migration.migration, forged.migration.epoch);
        forged.say(FromSource::Word(Envelope { migration, epoch, body: ToTarget::Attach })).await;
        let prepared = forged.hear().await;
        assert!(matches!(&prepared, FromTarget::Word(envelope) if envelope.body == ToSource::Prepared), "{prepared:?}");
        let disk = OfferedDisk { spec: agent.spec.disks[0].clone(), allocated_bytes: 0, changed_since: None };
        let offer = Offer {
            migration,
            instance: agent.spec.id,
            source_epoch: OWNED_BY_SOURCE,
            streams: 1,
            moved_as: whimbrel_core::instance::MovedAs::Running,
            disks: vec![disk],
        };
        forged.say(FromSource::Offer(offer)).await;
        let accepted = forged.hear().await;
        assert!(matches!(&accepted, FromTarget::Accept { disks } if disks.len() == 1), "{accepted:?}");
        forged
    }

    async fn say(&self, message: FromSource) {
        self.control.sender.send(&Message::Source(message)).await.unwrap();
    }

    /// The next that is not the target's question whether anything was decided, which it asks on every new link.
    async fn hear(&mut self) -> FromTarget {
        loop {
            let heard = tokio::time::timeout(TIME_MAX, self.control.receiver.recv()).await.expect("a word in time");
            match heard.unwrap() {
                Some(Message::Target(FromTarget::Word(envelope))) if envelope.body == ToSource::WhatIsSo => {}
                Some(Message::Target(message)) => return message,
                other => panic!("the target says {other:?}"),
            }
        }
    }
}

fn frame(offset: u64, payload: &[u8]) -> (Header, Vec<u8>) {
    let header = Header::new(Kind::Data, 0, 0, offset, payload.len() as u32, payload);
    (header, [&header.encode()[..], payload].concat())
}

fn payload() -> Vec<u8> {
    (0..CHUNK_BYTES).map(|at| (at % 251) as u8).collect()
}

async fn ends_clean(agent: &Agent, migration: &MigrationReport, case: &str) -> Failure {
    let of = async || agent.client.migration(migration.migration).await.unwrap();
    agent.until(case, async || of().await.phase == SidePhase::Aborted).await;
    assert_eq!(agent.held(), Vec::<std::path::PathBuf>::new(), "{case}: left behind");
    of().await.failure.expect("why it ended")
}

/// The bytes come on the data stream, then its end if `closed`.
async fn check(agent: &Agent, bytes: &[u8], closed: bool, code: FailureCode, words: &[&str]) {
    let case = format!("{words:?}");
    let mut forged = Forged::begin(agent).await;
    // The target may hang up as soon as it has seen enough.
    let _ = forged.data.write_all(bytes).await;
    let _ = forged.data.flush().await;
    if closed {
        let _ = forged.data.shutdown().await;
    }
    let told = match forged.hear().await {
        FromTarget::Failed { failure } => failure,
        other => panic!("{case}: the target says {other:?}"),
    };
    let kept = ends_clean(agent, &forged.migration, &case).await;
    for failure in [told, kept] {
        assert_eq!(failure.code, code, "{failure}");
        assert!(words.iter().all(|word| failure.detail.contains(word)), "'{failure}' does not say {words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_frame_ends_its_migration_and_no_more() {
    let agent = Agent::start().await;
    let (_, good) = frame(0, &payload());
    let bent = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    check(&agent, &bent(1000), false, FailureCode::Corrupt, &["disk root", "offset 0", "corrupt"]).await;
    check(&agent, &bent(0), false, FailureCode::Corrupt, &["stream 0", "magic"]).await;
    check(&agent, &good[..1000], true, FailureCode::PeerLost, &["stream 0", "Data frame of disk 0", "1000 bytes"])
        .await;
    check(&agent, &good[..10], true, FailureCode::PeerLost, &["stream 0", "after 10 bytes"]).await;
    let (_, beyond) = frame(DISK_BYTES - 1, &payload());
    check(&agent, &beyond, false, FailureCode::Internal, &["disk root, whose size is"]).await;
    takes_good_frames(&agent).await;
    agent.stop().await;
}

/// What was refused above was refused for what was wrong with it.
async fn takes_good_frames(agent: &Agent) {
    let mut forged = Forged::begin(agent).await;
    let (header, good) = frame(0, &payload());
    forged.data.write_all(&good).await.unwrap();
    forged.data.flush().await.unwrap();
    let mut totals = DiskTotals::new(0);
    totals.add(&header);
    forged.say(FromSource::RoundEnd { round: 0, totals: vec![totals], seal: false }).await;
    let done = forged.hear().await;
    assert!(matches!(done, FromTarget::RoundDone { round: 0 }), "{done:?}");
    assert!(!agent.held().is_empty());
    let failure = Failure::new(FailureCode::Cancelled, "the test is over");
    let give_up = GiveUp { instance: agent.spec.id, epoch: forged.migration.epoch, failure };
    agent.client.discard(forged.migration.migration, &give_up).await.unwrap();
    let why = ends_clean(agent, &forged.migration, "discarded").await;
    assert_eq!(why.code, FailureCode::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_control_message_ends_its_migration_and_no_more() {
    let agent = Agent::start().await;
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x02{]", b"\0\0\0\x40{"] {
        let migration = agent.prepare().await;
        let mut control = open(&agent, &migration, StreamKind::Control).await;
        let _ = control.write_all(bytes).await;
        let _ = control.shutdown().await;
        let case = format!("{bytes:?}");
        let failure = Failure::new(FailureCode::Cancelled, "the source is gone");
        let give_up = GiveUp { instance: agent.spec.id, epoch: migration.epoch, failure };
        agent.client.discard(migration.migration, &give_up).await.unwrap();
        ends_clean(&agent, &migration, &case).await;
    }
    takes_good_frames(&agent).await;
    agent.stop().await;
}
