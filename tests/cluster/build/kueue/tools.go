//go:build tools

// Package tools pins the programs that the test cluster builds.
package tools

import (
	_ "sigs.k8s.io/kueue/cmd/kueue"
)
