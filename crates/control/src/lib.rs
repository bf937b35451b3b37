//! Decisions: autoscaling, rollouts, restarts. Pure, in virtual time.
