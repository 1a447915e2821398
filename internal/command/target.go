package command

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// shortKinds are the short names that people may type.
var shortKinds = func() map[string]string {
	short := map[string]string{"po": "pod"}
	for i := range mesh.Kinds {
		for _, name := range mesh.Kinds[i].ShortNames {
			short[name] = strings.ToLower(mesh.Kinds[i].Name)
		}
	}
	return short
}()

// target is what explain is asked about. The kind is in lower case and singular, as far as that can
// be told; the group is empty where none was said.
type target struct {
	kind, group, namespace, name string
}

// parseTarget reads KIND/NAME.
func parseTarget(text, namespace string) (target, error) {
	kind, name, found := strings.Cut(text, "/")
	if !found || kind == "" || name == "" || strings.Contains(name, "/") {
		return target{}, fmt.Errorf("%q is not KIND/NAME, for instance deployment/web", text)
	}
	kind, group, _ := strings.Cut(strings.ToLower(kind), ".")
	kind = cmp.Or(shortKinds[kind], kind)
	return target{kind: kind, group: group, namespace: namespace, name: name}, nil
}

// String is the target as it was understood.
func (t target) String() string {
	text := t.kind
	if t.group != "" {
		text += "." + t.group
	}
	text += "/" + t.name
	if t.namespace != "" {
		text += " in namespace " + t.namespace
	}
	return text
}

// isKind reports whether a kind is meant, in singular or plural.
func (t target) isKind(kind string) bool {
	kind = strings.ToLower(kind)
	return t.kind == kind || t.kind == kind+"s"
}

func (t target) is(key mesh.Key) bool {
	return t.name == key.Name && t.isKind(key.Kind) && (t.group == "" || t.group == strings.ToLower(key.Group))
}

// resolve finds the workload that is meant; where a Pod is, the workload of that Pod and its name.
func (s *subject) resolve(asked target) (key mesh.Key, pod string, err error) {
	if asked.namespace != "" && !s.hasNamespace(asked.namespace) {
		return mesh.Key{}, "", fmt.Errorf("there is no namespace %s in this %s", asked.namespace, s.where)
	}
	var found []mesh.Key
	for _, namespace := range s.Snapshot.Namespaces {
		if asked.namespace != "" && asked.namespace != namespace.Name {
			continue
		}
		if asked.isKind("Pod") && asked.group == "" {
			if key, exists := s.inventory.WorkloadOf(namespace.Name, asked.name); exists {
				found = append(found, key)
			}
			continue
		}
		for _, workload := range namespace.Workloads {
			if asked.is(workload.Key) {
				found = append(found, workload.Key)
			}
		}
	}
	if asked.isKind("Pod") {
		pod = asked.name
	}
	switch len(found) {
	case 1:
		return found[0], pod, nil
	case 0:
		return mesh.Key{}, "", s.notFound(asked)
	}
	if asked.namespace == "" {
		return mesh.Key{}, "", fmt.Errorf("there are several %s, in the namespaces %s; say which with -n", asked, namespacesOf(found))
	}
	return mesh.Key{}, "", fmt.Errorf("there are several %s: %s; say the group with the kind", asked, keysOf(found))
}

func namespacesOf(keys []mesh.Key) string {
	var names []string
	for _, key := range keys {
		names = append(names, key.Namespace)
	}
	slices.Sort(names)
	return fewOf(slices.Compact(names))
}

func keysOf(keys []mesh.Key) string {
	var names []string
	for _, key := range keys {
		names = append(names, key.String())
	}
	return fewOf(names)
}

// notFound is the error for a name that is not there, with those that are near it.
func (s *subject) notFound(asked target) error {
	type candidate struct {
		name string
		far  int
	}
	var near []candidate
	consider := func(namespace, kind, name string, otherKind bool) {
		far := distance(asked.name, name)
		if otherKind {
			far++ // what is of the kind asked for comes first
		}
		if far > max(len(asked.name)/3, 1)+1 && !strings.HasPrefix(asked.name, name+"-") && !strings.HasPrefix(name, asked.name+"-") {
			return
		}
		text := strings.ToLower(kind) + "/" + name
		if asked.namespace == "" {
			text += " in " + namespace
		}
		near = append(near, candidate{text, far})
	}
	for _, namespace := range s.Snapshot.Namespaces {
		if asked.namespace != "" && asked.namespace != namespace.Name {
			continue
		}
		for _, workload := range namespace.Workloads {
			consider(namespace.Name, workload.Key.Kind, workload.Key.Name, !asked.isKind(workload.Key.Kind))
		}
		if asked.isKind("Pod") {
			for _, name := range s.inventory.PodNames(namespace.Name) {
				consider(namespace.Name, "Pod", name, false)
			}
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.far, b.far), strings.Compare(a.name, b.name))
	})
	near = slices.Compact(near)
	if len(near) == 0 {
		return fmt.Errorf("there is no %s in this %s", asked, s.where)
	}
	var names []string
	for _, candidate := range near {
		names = append(names, candidate.name)
	}
	return fmt.Errorf("there is no %s in this %s; near it: %s", asked, s.where, fewOf(names))
}

// distance is how many characters must be added, taken away or changed to make one name of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
