//! Which controller asks: of each work the highest fence under which this agent was asked.
//!
//! Ground rules: a controller that was overtaken and does not know it yet is refused; what is only looked at is anybody's to look at;
//! kept in memory, since the fence is one guard beside the epoch and the journals, and a database that was put back to an earlier
//! state must not lock its controllers out for ever.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use whimbrel_api::agent::FENCE_HEADER;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    lease::{Fence, Work},
};

use crate::api::Refused;

#[derive(Debug, Default)]
pub struct Fences(Mutex<HashMap<Work, Fence>>);

impl Fences {
    /// `said` is the header's text: `servers/3 17`.
    fn check(&self, said: &str) -> Result<(), Failure> {
        let parsed =
            said.split_once(' ').and_then(|(work, fence)| Some((work.parse::<Work>().ok()?, fence.parse().ok()?)));
        let Some((work, fence)) = parsed else {
            let detail = format!("'{said}' is no fence");
            return Err(
                Failure::new(FailureCode::BadRequest, detail).hint("are controller and agent of the same version?")
            );
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = all.entry(work).or_default();
        if Fence(fence) < *highest {
            let detail = format!("work '{work}' is done by a later controller (fence {}, not {fence})", highest.0);
            // It says nothing of what was asked for, which whoever came later may ask again.
            return Err(Failure::new(FailureCode::Unauthorized, detail).hint("this controller stops by itself"));
        }
        *highest = Fence(fence);
        Ok(())
    }
}

/// Around every route.
pub async fn only_the_latest(State(fences): State<Arc<Fences>>, request: Request, next: Next) -> Response {
    let said = request.headers().get(FENCE_HEADER).filter(|_| request.method() != Method::GET);
    match said.map(|said| fences.check(said.to_str().unwrap_or_default())) {
        Some(Err(failure)) => Refused(failure).into_response(),
        Some(Ok(())) | None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_overtaken_is_refused_in_that_work_alone() {
        let fences = Fences::default();
        let check = |said: &str, want: Result<(), FailureCode>| {
            assert_eq!(fences.check(said).map_err(|failure| failure.code), want, "{said}");
        };
        check("servers/3 5", Ok(()));
        check("servers/3 5", Ok(()));
        check("servers/3 4", Err(FailureCode::Unauthorized));
        check("servers/4 1", Ok(()));
        check("servers/3 7", Ok(()));
        check("servers/3 6", Err(FailureCode::Unauthorized));
        for bad in ["", "servers/3", "servers/99 1", "servers/3 x", "servers/3 -1"] {
            check(bad, Err(FailureCode::BadRequest));
        }
    }
}
