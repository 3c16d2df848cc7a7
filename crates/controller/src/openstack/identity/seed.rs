//! What must be there before anybody can log in: the default domain, the roles, and, on demand, a first administrator.
//!
//! Ground rules: all of it may be asked for again and again; what is there stays, but for the administrator's password, which
//! becomes the one that was asked for (the way back in for those who lost it).

use uuid::Uuid;
use whimbrel_core::identity::{DomainId, ProjectId, Role, RoleId, UserId};
use whimbrel_store::{DomainRow, GrantScope, Grantee, PageAsk, ProjectRow, RoleRow, Store, StoreError, UserRow};

use crate::app::App;

const DOMAIN_NAME: &str = "Default";
const ADMIN: &str = "admin";
const PROJECT_DESCRIPTION: &str = "Made for the first administrator.";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrapped {
    pub user: UserRow,
    pub project: ProjectRow,
    pub domain: DomainRow,
}

pub async fn seed(store: &Store, now_us: i64) -> Result<(), StoreError> {
    let domain = DomainRow {
        id: DomainId::default_domain(),
        name: DOMAIN_NAME.to_owned(),
        description: "The default domain".to_owned(),
        enabled: true,
        generation: 1,
        created_us: now_us,
    };
    // Another controller may be at it too.
    ours_or_theirs(store.create_domain(&domain).await)?;
    for role in Role::ALL {
        let id = RoleId::from(Uuid::now_v7());
        let row = RoleRow { id, name: role.as_str().to_owned(), description: String::new(), created_us: now_us };
        ours_or_theirs(store.create_role(&row).await)?;
    }
    Ok(())
}

fn ours_or_theirs(made: Result<(), StoreError>) -> Result<(), StoreError> {
    match made {
        Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// User `admin` with that password, an administrator of project `admin` and of the system.
pub async fn bootstrap(app: &App, password_hash: String) -> Result<Bootstrapped, StoreError> {
    let (store, now_us) = (&app.store, App::now_us());
    let domain = store.domain(&DomainId::default_domain()).await?;
    let project = ProjectRow {
        id: ProjectId::from(Uuid::now_v7()),
        domain: domain.id.clone(),
        name: ADMIN.to_owned(),
        description: PROJECT_DESCRIPTION.to_owned(),
        enabled: true,
        generation: 1,
        created_us: now_us,
    };
    ours_or_theirs(store.create_project(&project).await)?;
    let project = store.project_named(&domain.id, ADMIN).await?;
    let user = UserRow {
        id: UserId::from(Uuid::now_v7()),
        domain: domain.id.clone(),
        name: ADMIN.to_owned(),
        password_hash: Some(password_hash.clone()),
        enabled: true,
        default_project: Some(project.id.clone()),
        extra: Default::default(),
        generation: 1,
        created_us: now_us,
    };
    ours_or_theirs(store.create_user(&user).await)?;
    let mut user = store.user_named(&domain.id, ADMIN).await?;
    if user.password_hash.as_ref() != Some(&password_hash) || !user.enabled {
        user.password_hash = Some(password_hash);
        user.enabled = true;
        store.change_user(&user, true).await?;
    }
    let roles = store.list_roles(Some(Role::Admin.as_str()), &PageAsk::default()).await?;
    for role in roles.items {
        for scope in [GrantScope::Project(project.id.clone()), GrantScope::System] {
            store.grant(&Grantee { user: user.id.clone(), role: role.id.clone(), scope }, now_us).await?;
        }
    }
    Ok(Bootstrapped { user, project, domain })
}
