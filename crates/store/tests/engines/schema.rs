//! The schema and the set-up of connections.

use sqlx::{AnyPool, Row};
use whimbrel_store::{Engine, Store, StoreError};

use crate::fixture::{Database, NOW_US, host, instance};

const SCHEMA_VERSIONS: i64 = 10;

/// Beside the store: what only a damaged or newer database would hold.
async fn by_hand(database: &Database, sql: &'static str) {
    let pool = AnyPool::connect(&database.url).await.unwrap();
    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    pool.close().await;
}

pub async fn is_applied_once_by_two_that_start_at_once(database: Database) {
    let (one, other) = tokio::join!(Store::open(&database.url), Store::open(&database.url));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.engine() == Engine::Sqlite, database.url.starts_with("sqlite"));
    one.record_certificate(&host("h1"), "1", NOW_US).await.unwrap();
    assert_eq!(other.count_hosts().await.unwrap(), 1);
    one.close().await;
    other.close().await;
    assert_eq!(database.store().await.count_hosts().await.unwrap(), 1);
    let pool = AnyPool::connect(&database.url).await.unwrap();
    let row = sqlx::query("SELECT COUNT(*) AS versions FROM schema_versions").fetch_one(&pool).await.unwrap();
    assert_eq!(row.try_get::<i64, _>("versions").unwrap(), SCHEMA_VERSIONS);
}

pub async fn of_a_newer_version_is_left_alone(database: Database) {
    database.store().await.close().await;
    by_hand(&database, "INSERT INTO schema_versions (version, applied_by) VALUES (999, '9.9')").await;
    let error = Store::open(&database.url).await.expect_err("newer");
    assert!(matches!(error, StoreError::TooNew { found: 999, .. }) && error.to_string().contains("hint:"), "{error}");
}

pub async fn a_bad_value_is_named(database: Database) {
    let store = database.with_hosts().await;
    by_hand(&database, "UPDATE hosts SET facts = '{\"name\":' WHERE name = 'h2'").await;
    let error = store.host(&host("h2")).await.expect_err("bad facts");
    assert!(
        matches!(error, StoreError::Corrupt { column: "facts", .. }) && error.to_string().contains("'h2'"),
        "{error}"
    );
    by_hand(&database, "UPDATE hosts SET facts = NULL, state = 'asleep' WHERE name = 'h2'").await;
    let error = store.host(&host("h2")).await.expect_err("bad state");
    assert!(error.to_string().contains("'asleep' is not known"), "{error}");
    assert!(store.host(&host("h1")).await.is_ok());
}

pub async fn foreign_keys_hold_on_every_connection(database: Database) {
    let store = database.with_hosts().await;
    let nowhere = instance(1, "vm", "h9");
    let error = store.create_instance(&nowhere, |_| Ok(())).await.expect_err("no such host");
    assert!(matches!(&error, StoreError::NotFound { object: "host", id } if id == "h9"), "{error}");
    for number in 1..20 {
        let orphan = store.record_instance_news(&news(number), NOW_US).await.unwrap();
        assert!(!orphan, "an unknown instance was believed");
    }
    store.create_instance(&instance(1, "vm", "h1"), |_| Ok(())).await.unwrap();
    for _ in 0..20 {
        let error = store.record_instance_news(&news(1), NOW_US).await.expect_err("no such host");
        assert!(matches!(error, StoreError::Db { .. }), "{error}");
    }
}

fn news(number: u128) -> whimbrel_store::InstanceNews {
    whimbrel_store::InstanceNews {
        id: instance(number, "vm", "h9").spec.id,
        host: host("h9"),
        owned_epoch: whimbrel_core::id::Epoch(9),
        power: whimbrel_core::instance::PowerState::Running,
        failure: None,
        write_bps: 0,
    }
}
