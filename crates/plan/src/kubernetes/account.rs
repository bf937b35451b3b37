//! The ServiceAccount that pods run as.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Context, Object};

/// An account of the service's own that may do nothing: no role is bound to it, and its token is not
/// mounted. It exists so that a cloud's identity can be given to one service, and to no other.
pub(super) fn service_account(ctx: &Context<'_>) -> Object {
    Object::new(&ServiceAccount {
        metadata: ctx.metadata(ctx.plan.name.clone(), ctx.labels()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}
