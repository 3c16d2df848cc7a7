//! The daemon layer over real sockets, keys and files.
mod files;
mod handshakes;
mod pki;
mod serving;

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use whimbrel_daemon::{
    clock::Timestamp,
    pki::{Authority, Identity, Names, PeerIdentity, Role},
};

/// Far more than any step here takes; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Ca {
    authority: Authority,
    _dir: TempDir,
}

impl Ca {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Ca { authority: Authority::open(dir.path(), Timestamp::now()).unwrap(), _dir: dir }
    }

    fn identity(&self, role: Role, name: &str) -> Arc<Identity> {
        self.identity_made(role, name, Timestamp::now())
    }

    fn identity_made(&self, role: Role, name: &str, at: Timestamp) -> Arc<Identity> {
        Identity::new(&self.authority.issue(&peer(role, name), &Names::default(), at).unwrap()).unwrap()
    }
}

fn peer(role: Role, name: &str) -> PeerIdentity {
    PeerIdentity { role, name: name.parse().unwrap() }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}
