package mesh_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"testing"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

func TestExpectAgreesWithTheRealInjector(t *testing.T) {
	rows := truth(t)
	istio := injector(webhooksFrom(t, filepath.Join("testdata", "injection-truth-mwc.yaml")))
	injected := 0
	for _, row := range rows {
		got := istio.Expect(row.namespace, row.template)
		if got.Inject != row.injected || got.Revision != row.revision {
			t.Errorf("namespace %v, template %v: expected injected=%t by %q, got %t by %q (%s)",
				row.namespace.Labels, row.template, row.injected, row.revision, got.Inject, got.Revision, got.Reason)
		}
		if got.Reason == "" || got.Message == "" || got.Assumed != "" {
			t.Errorf("namespace %v, template %v: incomplete answer %+v", row.namespace.Labels, row.template, got)
		}
		if got.Inject {
			injected++
		}
	}
	if len(rows) != 4500 || injected != 1210 {
		t.Errorf("%d of %d injected, want 1210 of 4500", injected, len(rows))
	}
}

// Where the sentence of a refusal names a label that would bring a sidecar, setting it does.
func TestExpectSaysWhatWouldChangeIt(t *testing.T) {
	istio := injector(webhooksFrom(t, filepath.Join("testdata", "injection-truth-mwc.yaml")))
	for _, row := range truth(t) {
		before := istio.Expect(row.namespace, row.template)
		namespace, template := row.namespace, row.template
		switch before.Reason {
		case mesh.ReasonExpected, mesh.ReasonPodNotSelected, mesh.ReasonPodLabelOptOut, mesh.ReasonPodAnnotationOptOut:
			continue
		case mesh.ReasonNamespaceDisabled, mesh.ReasonNamespaceNotLabelled, mesh.ReasonAmbient:
			namespace.Labels = set{"istio-injection": "enabled"}
		case mesh.ReasonNamespaceRevisionDangling, mesh.ReasonPodRevisionDangling:
			namespace.Labels = set{"istio.io/rev": "prod"}
		case mesh.ReasonAnnotationWithoutWebhook:
			template = labelled(set{"sidecar.istio.io/inject": "true"})
		default:
			t.Errorf("namespace %v, template %v: unexpected reason %s", namespace.Labels, template, before.Reason)
		}
		if after := istio.Expect(namespace, template); !after.Inject {
			t.Errorf("namespace %v, template %v: %s: %s; done so, it is: %s",
				row.namespace.Labels, row.template, before.Reason, before.Message, after.Message)
		}
	}
}

func BenchmarkExpect(b *testing.B) {
	rows := truth(b)
	istio := injector(webhooksFrom(b, filepath.Join("testdata", "injection-truth-mwc.yaml")))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		row := rows[i%len(rows)]
		istio.Expect(row.namespace, row.template)
	}
}

type truthRow struct {
	namespace mesh.Namespace
	template  mesh.Template
	injected  bool
	revision  string
}

func truth(t testing.TB) []truthRow {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", "injection-truth-4500.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []truthRow
	for _, record := range records[1:] {
		row := truthRow{
			namespace: namespace(set{}),
			template:  mesh.Template{Labels: set{}, Annotations: set{}},
			injected:  record[6] == "true",
			revision:  record[7],
		}
		put := func(set set, key, value string) {
			if value != "<absent>" {
				set[key] = value
			}
		}
		put(row.namespace.Labels, "istio-injection", record[0])
		put(row.namespace.Labels, "istio.io/rev", record[1])
		put(row.namespace.Labels, "istio.io/dataplane-mode", record[2])
		put(row.template.Labels, "sidecar.istio.io/inject", record[3])
		put(row.template.Labels, "istio.io/rev", record[4])
		put(row.template.Annotations, "sidecar.istio.io/inject", record[5])
		rows = append(rows, row)
	}
	return rows
}
