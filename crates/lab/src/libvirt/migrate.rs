//! One migration as a user of libvirt starts it, with a bound on its time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::timeout;

use super::{
    Daemon,
    domain::{DEVICE_LIST, NAME},
};

const DOWNTIME_FIELD: &str = "Total downtime:";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// `false`: it was given up when its time was over.
    pub(crate) completed: bool,
    pub(crate) total: Duration,
    /// As libvirt itself says.
    pub(crate) downtime_ms: Option<f64>,
}

pub(crate) async fn migrate(source: &Daemon, target: &Daemon, time_max: Duration) -> Result<Outcome> {
    let (connection, data) = (format!("qemu+tcp://{}/system", target.control), format!("tcp://{}", target.migration));
    let words = ["migrate", "--live", "--copy-storage-all", "--migrate-disks", DEVICE_LIST, NAME, &connection, &data];
    let began = Instant::now();
    let output = match timeout(time_max, source.command(&words).output()).await {
        Ok(output) => output?,
        Err(_) => {
            let total = began.elapsed();
            // It goes on without its client until it is told; the domain is destroyed afterwards in any case.
            source.virsh(&["domjobabort", NAME]).await?;
            return Ok(Outcome { completed: false, total, downtime_ms: None });
        }
    };
    let total = began.elapsed();
    if !output.status.success() {
        bail!("virsh migrate: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let said = target.virsh(&["domjobinfo", NAME, "--completed"]).await?;
    Ok(Outcome { completed: true, total, downtime_ms: downtime(&said) })
}

fn downtime(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix(DOWNTIME_FIELD))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downtime_is_read_from_what_libvirt_says() {
        let check = |said: &str, want: Option<f64>| assert_eq!(downtime(said), want, "{said}");
        check("Job type:         Completed   \nTotal downtime:   94           ms\n", Some(94.0));
        check("Job type:         None\n", None);
        check("Total downtime:   soon ms\n", None);
    }
}
