// Answers what Katib's own webhook says about Experiments: the oracle of tests/tuner/check/test_validator.py.
//
// Each line of standard input is an Experiment as JSON; the line of standard output for it is the error with which the
// webhook refuses it, as JSON text, "" where it accepts. run.sh builds and runs it with the pinned version of Katib.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	experiments "github.com/kubeflow/katib/pkg/apis/controller/experiments/v1beta1"
	"github.com/kubeflow/katib/pkg/controller.v1beta1/consts"
	"github.com/kubeflow/katib/pkg/controller.v1beta1/experiment/manifest"
	"github.com/kubeflow/katib/pkg/webhook/v1beta1/experiment/validator"
)

func main() {
	config, err := os.ReadFile(os.Args[1]) // katib-config.yaml, as Katib ships it
	if err != nil {
		panic(err)
	}
	held := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: consts.KatibConfigMapName, Namespace: consts.DefaultKatibNamespace},
		Data:       map[string]string{consts.LabelKatibConfigTag: string(config)},
	}
	rules := validator.New(manifest.New(fake.NewClientBuilder().WithObjects(held).Build()))
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		answer, _ := json.Marshal(verdict(rules, lines.Bytes()))
		fmt.Println(string(answer))
	}
}

// verdict decodes, applies the defaults and validates, as the two webhooks do.
func verdict(rules validator.Validator, data []byte) (text string) {
	defer func() {
		if failure := recover(); failure != nil {
			text = fmt.Sprintf("panic: %v", failure)
		}
	}()
	experiment := &experiments.Experiment{}
	if err := json.Unmarshal(data, experiment); err != nil {
		return err.Error()
	}
	experiment.SetDefault()
	if err := rules.ValidateExperiment(experiment, nil).ToAggregate(); err != nil {
		return err.Error()
	}
	return ""
}
