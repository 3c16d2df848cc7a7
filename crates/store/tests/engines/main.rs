//! Every statement on both engines: the same cases, each on an empty database of its own.
mod books;
mod fixture;
mod hosts;
mod identity;
mod images;
mod leases;
mod migrations;
mod network;
mod postgres;
mod schema;
mod servers;
mod tenancy;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

use fixture::Database;
use postgres::Postgres;

type Case = fn(Database) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! cases {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        [$((concat!(stringify!($module), "_", stringify!($name)), (|database| Box::pin($module::$name(database))) as Case)),+]
    };
}

const CASES: [(&str, Case); 62] = cases![
    schema::is_applied_once_by_two_that_start_at_once,
    schema::of_a_newer_version_is_left_alone,
    schema::a_bad_value_is_named,
    schema::foreign_keys_hold_on_every_connection,
    books::flavors,
    books::flavors_have_extra_specs_and_access,
    books::images,
    books::hosts,
    books::a_join_token_is_used_once,
    books::api_tokens,
    books::pages,
    books::instances,
    books::tasks_exclude_each_other,
    books::the_owner_at_the_higher_epoch_is_believed,
    books::the_last_room_is_given_once,
    books::a_claim_waits_for_its_turn,
    images::say_more_than_content,
    images::of_the_native_api_are_nobodys_and_public,
    images::an_upload_ends_once,
    hosts::are_numbered_taken_out_and_brought_back,
    hosts::are_not_deleted_while_they_are_needed,
    hosts::are_used_by_what_lives_there_and_what_comes,
    hosts::are_put_together,
    hosts::have_one_zone_and_keep_it_while_servers_live_there,
    identity::names_are_unique_in_a_domain,
    identity::a_change_names_what_was_read,
    identity::grants_are_found_by_what_they_are,
    identity::a_token_lives_until_it_expires_or_is_taken_back,
    identity::what_goes_takes_its_grants_and_tokens_along,
    servers::are_listed_newest_first,
    servers::a_description_names_what_was_read,
    servers::a_task_begins_once_and_restarts_are_counted,
    servers::actions_outlive_their_server,
    servers::a_migration_ends_its_event,
    servers::what_a_dead_controller_left_open_is_ended,
    servers::a_migration_has_a_number,
    network::a_network_has_its_wire_for_itself,
    network::subnets_do_not_overlap_and_stay_while_used,
    network::no_address_is_given_twice,
    network::a_port_gets_the_addresses_that_it_asks_for,
    network::a_server_has_all_its_ports_or_none,
    network::security_groups,
    leases::are_shared_given_back_and_taken_over,
    leases::of_the_overtaken_write_nothing,
    leases::what_is_shared_is_set_up_once,
    leases::a_server_that_moves_goes_after_its_move,
    leases::moves_are_listed_by_what_is_asked,
    leases::words_of_many_hosts_are_taken_together,
    migrations::one_migration_of_an_instance_at_a_time,
    migrations::a_refusal_writes_nothing,
    migrations::a_step_is_taken_once,
    migrations::the_end_settles_claims_and_host,
    migrations::a_debt_outlives_the_migration_and_keeps_only_its_claim,
    tenancy::a_key_pair_is_its_users,
    tenancy::the_last_key_pair_is_made_once,
    tenancy::quotas_are_what_was_said,
    tenancy::use_is_what_servers_take,
    tenancy::server_groups_are_limited_by_project_and_user,
    tenancy::the_last_server_group_is_made_once,
    tenancy::members_are_servers_that_are_there,
    tenancy::a_group_is_counted_where_a_place_is_taken,
    tenancy::usage_goes_by_project_and_server,
];

/// All of them, also after one that failed: the difference between two engines is in the list.
fn run_all(mut database: impl FnMut(&str) -> Database) {
    let mut failed = Vec::new();
    for (name, case) in CASES {
        let database = database(name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if catch_unwind(AssertUnwindSafe(|| runtime.block_on(case(database)))).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

#[test]
fn sqlite() {
    let dir = tempfile::tempdir().unwrap();
    run_all(|name| Database::at(format!("sqlite:{}", dir.path().join(name).with_extension("db").display())));
}

#[test]
fn postgres() {
    let server = Postgres::start();
    run_all(|name| Database::at(server.database(name)));
}
