//! The operator's side of the peer: answers requests on the control socket.

use std::{io, time::Duration};

use tokio::{io::BufReader, net::UnixStream};

use super::{
    Reply, Request, lines,
    link::{Link, OrderError, Report},
    wire::Task,
};

/// For orders that the guest carries out at once.
const SHORT: Duration = Duration::from_secs(10);

/// Serves one client until it leaves; one request at a time.
pub(super) async fn serve(link: &Link, client: UnixStream) -> io::Result<()> {
    let (from, mut to) = client.into_split();
    let mut from = BufReader::new(from);
    while let Some(request) = lines::read::<Request>(&mut from).await? {
        let reply = match answer(link, request).await {
            Ok(reply) => reply,
            Err(error) => Reply::Refused { why: error.to_string() },
        };
        lines::write(&mut to, &reply).await?;
    }
    Ok(())
}

async fn answer(link: &Link, request: Request) -> Result<Reply, OrderError> {
    match request {
        Request::Status => Ok(Reply::Status(link.ledger().status(link.now()))),
        Request::ResetStall => {
            link.ledger().reset_stall(link.now());
            Ok(Reply::Done)
        }
        Request::Set(rates) => Ok(reply(link.order(Task::Set(rates), SHORT).await?)),
        Request::WriteChanges { bytes, deadline_ms } => {
            let task = Task::WriteChanges { bytes };
            Ok(reply(link.order(task, Duration::from_millis(deadline_ms)).await?))
        }
        Request::Verify { deadline_ms, resume } => {
            let task = Task::Verify { resume };
            Ok(reply(link.order(task, Duration::from_millis(deadline_ms)).await?))
        }
    }
}

fn reply(report: Report) -> Reply {
    match report {
        Report::Done => Reply::Done,
        Report::Failed(why) => Reply::Refused { why },
        Report::Judged(verdict) => Reply::Verdict(verdict),
    }
}
