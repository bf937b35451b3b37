//go:build tools

// Package tools pins the programs that the test cluster builds.
package tools

import (
	_ "github.com/zegl/kube-score/cmd/kube-score"
)
