//go:build tools

// Package tools pins the linter that `cargo xtask bench lint` compares with.
package tools

import (
	_ "github.com/zegl/kube-score/cmd/kube-score"
)
