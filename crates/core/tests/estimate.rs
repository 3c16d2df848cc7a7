//! The bar never goes back; the time left is a range or nothing; a forecast brackets what then happens.

use whimbrel_core::{
    convergence::Limits,
    estimate::{Estimator, Reading},
    forecast::{Question, forecast},
};

const MB: u64 = 1_000_000;

fn reading(done_mb: u64, left_mb: u64, rate_mb: u64, dirty_mb: u64) -> Reading {
    Reading { done_bytes: done_mb * MB, left_bytes: left_mb * MB, rate_bps: rate_mb * MB, dirty_bps: dirty_mb * MB }
}

#[test]
fn the_bar_never_goes_back() {
    let mut estimator = Estimator::default();
    let mut last = 0;
    // The guest bursts: what is left grows, the rate falls, and comes back.
    let readings = [
        (0, 1_000, 0, 0),
        (500, 500, 100, 0),
        (600, 900, 20, 90),
        (700, 2_000, 1, 90),
        (1_500, 10, 100, 5),
        (1_600, 0, 0, 0),
    ];
    for (done, left, rate, dirty) in readings {
        estimator.feed(&reading(done, left, rate, dirty));
        assert!(estimator.permille() >= last, "{last} -> {}", estimator.permille());
        assert!(estimator.permille() < 1_000, "1000 before the end");
        last = estimator.permille();
    }
    assert!(last > 900, "{last} at the end");
    estimator.finish();
    assert_eq!((estimator.permille(), estimator.remaining_ms()), (1_000, Some((0, 0))));
}

#[test]
fn the_bar_does_not_run_ahead_of_a_busy_guest() {
    let (mut quiet, mut busy) = (Estimator::default(), Estimator::default());
    quiet.feed(&reading(500, 500, 100, 0));
    busy.feed(&reading(500, 500, 100, 50));
    assert_eq!(quiet.permille(), 500);
    assert_eq!(busy.permille(), 333);
}

#[test]
fn time_left_is_a_range_or_nothing() {
    let check = |rate, dirty, want| {
        let mut estimator = Estimator::default();
        estimator.feed(&reading(100, 1_000, rate, dirty));
        assert_eq!(estimator.remaining_ms(), want, "{rate} {dirty}");
    };
    check(100, 0, Some((10_000, 10_000)));
    check(100, 50, Some((10_000, 20_000)));
    check(0, 0, None);
    check(100, 100, None);
    check(100, 200, None);
    assert_eq!(Estimator::default().remaining_ms(), None);
}

#[test]
fn a_forecast_is_a_range_that_holds_the_measured_moves() {
    let question = Question {
        disk_bytes: 1_050 * MB,
        ram_bytes: 256 * MB,
        link_bps: Some(117 * MB),
        limits: Limits::default(),
        ..Question::default()
    };
    let check = |name: &str, question: Question, low_ms: u64, high_ms: u64| {
        let forecast = forecast(&question);
        let worst = forecast.total_ms.1.unwrap_or_else(|| panic!("{name}: {forecast:?}"));
        assert!(forecast.total_ms.0 >= low_ms && worst <= high_ms, "{name}: {forecast:?}");
        assert!(
            forecast.total_ms.0 <= worst && forecast.downtime_ms.0 <= forecast.downtime_ms.1,
            "{name}: {forecast:?}"
        );
        assert!(forecast.downtime_ms.1 <= 300, "{name}: {forecast:?}");
        assert!(forecast.rate_known && !forecast.needs_throttle, "{name}: {forecast:?}");
    };
    check("idle", question, 11_000, 21_000);
    check("write20", Question { dirty_bps: 20 * MB, ..question }, 11_000, 30_000);
    check("write60", Question { dirty_bps: 60 * MB, ..question }, 11_000, 150_000);
    check("delta", Question { disk_bytes: 64 * MB, ..question }, 3_000, 7_000);
    check("slow disks", Question { link_bps: Some(10_000 * MB), disk_bps: Some(117 * MB), ..question }, 11_000, 21_000);
}

#[test]
fn a_forecast_without_an_upper_bound_says_so() {
    let busy = Question { disk_bytes: 1_000 * MB, link_bps: Some(100 * MB), dirty_bps: 80 * MB, ..Question::default() };
    let forecast_busy = forecast(&busy);
    assert_eq!((forecast_busy.bytes.1, forecast_busy.total_ms.1), (None, None));
    assert!(forecast_busy.needs_throttle);
    let unknown = forecast(&Question { link_bps: None, ..busy });
    assert!(!unknown.rate_known && unknown.rate_bps > 0);
}
