//go:build tools

// Package tools pins the definitions of the Gateway API that a test applies.
package tools

import (
	_ "sigs.k8s.io/gateway-api/apis/v1"
)
