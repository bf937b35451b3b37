// Upstream's end-to-end cases of NetworkPolicy, without the rest of upstream's suite.
//
// Flags are those of Kubernetes' e2e.test: --ginkgo.focus, --ginkgo.skip, … The cases' pods run
// the image that `cargo xtask cluster up --agnhost` imports.
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	imageutils "k8s.io/kubernetes/test/utils/image"

	_ "k8s.io/kubernetes/test/e2e/feature"
	_ "k8s.io/kubernetes/test/e2e/network/netpol"
)

// suite is what ginkgo needs of a testing.T.
type suite struct{ failed bool }

func (s *suite) Fail() { s.failed = true }

func main() {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if err := useLocalImages(); err != nil {
		log.Fatal(err)
	}
	framework.AfterReadingAllFlags(&framework.TestContext)
	gomega.RegisterFailHandler(framework.Fail)
	run := &suite{}
	suiteConfig, reporterConfig := framework.CreateGinkgoConfig()
	passed := ginkgo.RunSpecs(run, "NetworkPolicy", suiteConfig, reporterConfig)
	if !passed || run.failed {
		os.Exit(1)
	}
}

// useLocalImages makes the cases name images of localhost: nodes reach no registry.
func useLocalImages() error {
	folder, err := os.MkdirTemp("", "netpol-e2e-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	registries := filepath.Join(folder, "registries.yaml")
	if err := os.WriteFile(registries, []byte("promoterE2eRegistry: localhost\n"), 0o600); err != nil {
		return err
	}
	imageutils.Init(registries)
	return nil
}
