//! The first error of a transfer, known to all of its tasks.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::TransferError;

#[derive(Clone, Debug)]
pub(crate) struct FirstFault(Arc<watch::Sender<Option<TransferError>>>);

impl FirstFault {
    pub(crate) fn new() -> Self {
        FirstFault(Arc::new(watch::Sender::new(None)))
    }

    /// Keeps `error` unless one is known already: what comes later is mostly a consequence.
    pub(crate) fn set(&self, error: TransferError) {
        self.0.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::debug!(%error, "transfer failed");
                *known = Some(error);
            }
            first
        });
    }

    pub(crate) fn get(&self) -> Option<TransferError> {
        self.0.borrow().clone()
    }

    /// Resolves once there is one.
    pub(crate) async fn wait(&self) -> TransferError {
        let mut seen = self.0.subscribe();
        let known = seen.wait_for(Option::is_some).await.expect("the sender is in self");
        known.clone().expect("it was waited for")
    }
}
