//! What a rule may ask besides the thing that it looks at.

use crate::facts::{self, ProfileFacts};
use crate::model::Bundle;
use crate::settings::Profile;

/// The bundle and the kind of cluster.
pub struct Context<'b> {
    pub bundle: &'b Bundle<'b>,
    pub profile: Profile,
}

impl Context<'_> {
    /// What is known about clusters of this profile.
    #[must_use]
    pub fn facts(&self) -> &'static ProfileFacts {
        facts::profile(self.profile)
    }
}
