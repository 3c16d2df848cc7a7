//! The host's guests before our own reads and writes of an image.
//!
//! An image goes to its disk, or comes from it, as one long run. A scheduler that sorts by place (mq-deadline, the default of
//! every disk with one queue) serves such a run before whatever lies elsewhere, for up to `write_expire`, 5 s (Linux,
//! block/mq-deadline.c, `__dd_dispatch_request`): a guest's small writes stand still meanwhile. In the idle class ours wait
//! until nobody else's do (man ioprio_set). Where there is no scheduler, classes mean nothing, and requests are taken in turn.
//!
//! Ground rules: the class is the thread's only for as long as the work lasts; on a disk that is never idle the move goes on
//! all the same: once its work took longer than [`PATIENCE`], an image asks for no more courtesy.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// A chunk takes milliseconds where the disk has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(1);
const WHO_PROCESS: libc::c_long = 1;
const CLASS_IDLE: libc::c_long = 3 << 13;

#[derive(Debug)]
pub(super) struct Courtesy {
    patience: Duration,
    ran_out: AtomicBool,
}

impl Default for Courtesy {
    fn default() -> Self {
        Courtesy { patience: PATIENCE, ran_out: AtomicBool::new(false) }
    }
}

impl Courtesy {
    /// Does blocking `work` on the disk when nobody else wants it.
    pub(super) fn after_others<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = {
            let _idle = (!self.ran_out.load(Ordering::Relaxed)).then(Idle::begin);
            work()
        };
        if began.elapsed() > self.patience {
            self.ran_out.store(true, Ordering::Relaxed);
        }
        done
    }
}

/// The calling thread's requests are of the idle class; where that is refused, they are of the class that they were.
struct Idle {
    before: libc::c_long,
}

impl Idle {
    fn begin() -> Idle {
        let before = class();
        set_class(CLASS_IDLE);
        Idle { before }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        set_class(self.before);
    }
}

#[expect(unsafe_code, reason = "no maintained crate has this call")]
fn class() -> libc::c_long {
    // SAFETY: takes and gives numbers only; 0 is the calling thread.
    let class = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) };
    class.max(0)
}

#[expect(unsafe_code, reason = "no maintained crate has this call")]
fn set_class(class: libc::c_long) {
    // SAFETY: takes numbers only; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_work_itself_is_idle() {
        let before = class();
        assert_ne!(before, CLASS_IDLE);
        let courtesy = Courtesy::default();
        assert_eq!(courtesy.after_others(class), CLASS_IDLE);
        assert_eq!(class(), before);
    }

    #[test]
    fn a_disk_that_is_never_idle_holds_up_one_piece_of_work() {
        let courtesy = Courtesy { patience: Duration::ZERO, ..Courtesy::default() };
        assert_eq!(courtesy.after_others(class), CLASS_IDLE);
        assert_ne!(courtesy.after_others(class), CLASS_IDLE);
    }
}
