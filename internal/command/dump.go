package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/controllers"
)

// stdinName is how standard input is asked for, and stdinWords how it is spoken of.
const (
	stdinName  = "-"
	stdinWords = "standard input"
)

// dumpExtensions are those of the files that are read of a directory.
var dumpExtensions = []string{".yaml", ".yml", ".json"}

// dump is a cluster's objects as they were written down.
type dump struct {
	// objects are of the kinds that are looked at. Of one that is there twice, the later counts.
	objects []client.Object
	// newest is the newest time in any object.
	newest time.Time
	// passedOver counts objects of other kinds; withoutKind is the first document that is no
	// object.
	passedOver  map[string]int
	withoutKind *place
	// withoutStatus counts workloads and Pods that were written by hand.
	withoutStatus int

	kinds  map[schema.GroupVersionKind]newObject
	placed map[objectID]int
	// owned is which object has a UID.
	owned map[types.UID]identified
}

type newObject struct {
	create     func() client.Object
	namespaced bool
}

// objectID says which object it is, whatever its UID.
type objectID struct {
	schema.GroupKind
	namespace, name string
}

func (i objectID) String() string {
	if i.namespace == "" {
		return i.Kind + " " + i.name
	}
	return i.Kind + " " + i.namespace + "/" + i.name
}

type identified struct {
	objectID
	place
}

// place is where something stands: in which document of a file and, in a list, which item it is. Both
// count from 1.
type place struct {
	file           string
	document, item int
}

func (p place) String() string {
	if p.item == 0 {
		return fmt.Sprintf("%s, document %d", p.file, p.document)
	}
	return fmt.Sprintf("%s, document %d, item %d", p.file, p.document, p.item)
}

// fail is an error at a place.
func (p place) fail(format string, args ...any) error {
	return fmt.Errorf("%s: %w", p, fmt.Errorf(format, args...))
}

func newDump() *dump {
	return &dump{
		passedOver: map[string]int{},
		kinds:      dumpedKinds(),
		placed:     map[objectID]int{},
		owned:      map[types.UID]identified{},
	}
}

// dumpedKinds are the kinds that are looked at.
var dumpedKinds = sync.OnceValue(func() map[schema.GroupVersionKind]newObject {
	scheme := newScheme()
	kinds := map[schema.GroupVersionKind]newObject{}
	for _, kind := range append(controllers.Kinds(), &v1alpha1.MeshPolicy{}, &v1alpha1.MeshReport{}, &v1alpha1.MeshRestart{}) {
		gvk, err := apiutil.GVKForObject(kind, scheme)
		if err != nil {
			panic(fmt.Sprintf("%T is looked at and not in the scheme: %v", kind, err))
		}
		kinds[gvk] = newObject{
			create:     func() client.Object { return kind.DeepCopyObject().(client.Object) },
			namespaced: !slices.Contains(clusterScoped, gvk.Kind),
		}
	}
	return kinds
})

// clusterScoped are those of them that are in no namespace.
var clusterScoped = []string{"Namespace", "Node", "MutatingWebhookConfiguration", "MeshPolicy"}

// readDump reads files, directories and standard input.
func readDump(paths []string, stdin io.Reader) (*dump, error) {
	d := newDump()
	for _, path := range paths {
		if err := d.readPath(path, stdin); err != nil {
			return nil, fmt.Errorf("reading the dump: %w", err)
		}
	}
	if len(d.objects) == 0 {
		return nil, errors.New("reading the dump: there is no object in it that is looked at")
	}
	d.complete()
	return d, nil
}

func (d *dump) readPath(path string, stdin io.Reader) error {
	if path == stdinName {
		return d.read(stdinWords, stdin)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return d.readFile(path)
	}
	found := false
	// WalkDir goes by name, so the order is always the same.
	err = filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains(dumpExtensions, strings.ToLower(filepath.Ext(file))) {
			return err
		}
		found = true
		return d.readFile(file)
	})
	if err == nil && !found {
		return fmt.Errorf("directory %s has no file that ends in %s", path, strings.Join(dumpExtensions, ", "))
	}
	return err
}

func (d *dump) readFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return d.read(path, file)
}

// read reads documents of YAML or JSON, one after the other. They are in UTF-8, or in what a byte
// order mark says: PowerShell's > writes UTF-16.
func (d *dump) read(file string, content io.Reader) error {
	decoder := yaml.NewYAMLOrJSONDecoder(transform.NewReader(content, unicode.BOMOverride(transform.Nop)), 4096)
	for at := (place{file: file, document: 1}); ; at.document++ {
		var document runtime.RawExtension // in JSON, whatever it was written in
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return at.fail("%w", err)
		}
		if err := d.readDocument(at, document.Raw); err != nil {
			return err
		}
	}
}

// readDocument reads an object, or the items of a list. A list gives its items the version and kind
// that they lack.
func (d *dump) readDocument(at place, raw []byte) error {
	var list struct {
		metav1.TypeMeta
		Items []json.RawMessage `json:"items"`
	}
	if len(raw) == 0 {
		return nil
	}
	if json.Unmarshal(raw, &list) != nil || !strings.HasSuffix(list.Kind, "List") {
		return d.add(at, raw, metav1.TypeMeta{})
	}
	list.Kind = strings.TrimSuffix(list.Kind, "List")
	for i, item := range list.Items {
		at.item = i + 1
		if err := d.add(at, item, list.TypeMeta); err != nil {
			return err
		}
	}
	return nil
}

// add takes in an object of a kind that is looked at, and counts others. inherited is its type where it
// names none.
func (d *dump) add(at place, raw []byte, inherited metav1.TypeMeta) error {
	var meta metav1.TypeMeta
	err := json.Unmarshal(raw, &meta)
	if meta.Kind == "" {
		meta = inherited
	}
	if err != nil || meta.Kind == "" {
		if d.withoutKind == nil {
			d.withoutKind = &at
		}
		return nil
	}
	d.learnTimes(raw)
	gvk := meta.GroupVersionKind()
	kind, known := d.kinds[gvk]
	if !known {
		d.passedOver[d.nameOf(gvk)]++
		return nil
	}
	object := kind.create()
	if err := decode(raw, object); err != nil {
		return at.fail("reading a %s: %w", gvk.Kind, err)
	}
	return d.put(at, gvk.GroupKind(), kind, object)
}

// decode reads an object, of which a list may have told the kind.
func decode(raw []byte, object client.Object) error {
	if untyped, is := object.(*unstructured.Unstructured); is {
		kind := untyped.GroupVersionKind()
		defer func() { untyped.SetGroupVersionKind(kind) }()
		return utiljson.Unmarshal(raw, &untyped.Object)
	}
	return utiljson.Unmarshal(raw, object)
}

// nameOf names the kind of an object that is passed over. Where that kind is looked at in another
// version or group, these are what matters.
func (d *dump) nameOf(gvk schema.GroupVersionKind) string {
	for known := range d.kinds {
		if known.Kind == gvk.Kind {
			return gvk.Kind + " of " + gvk.GroupVersion().String()
		}
	}
	return gvk.Kind
}

// put gives an object its place among the others.
func (d *dump) put(at place, kind schema.GroupKind, how newObject, object client.Object) error {
	if object.GetName() == "" {
		return at.fail("the %s has no name", kind.Kind)
	}
	switch {
	case !how.namespaced:
		object.SetNamespace("")
	case object.GetNamespace() == "":
		object.SetNamespace("default")
	}
	id := objectID{kind, object.GetNamespace(), object.GetName()}
	if object.GetUID() == "" {
		object.SetUID(id.uid())
	}
	if other, taken := d.owned[object.GetUID()]; taken && other.objectID != id {
		return at.fail("%s has the UID of %s at %s", id, other.objectID, other.place)
	}
	if before, placed := d.placed[id]; placed {
		delete(d.owned, d.objects[before].GetUID())
		d.objects[before] = object
	} else {
		d.placed[id] = len(d.objects)
		d.objects = append(d.objects, object)
	}
	d.owned[object.GetUID()] = identified{id, at}
	return nil
}

// times are the fields that tell when something happened, and not when it will.
var times = regexp.MustCompile(`"(?:creationTimestamp|time|lastTransitionTime|lastUpdateTime|lastHeartbeatTime|startTime|startedAt|` +
	`finishedAt|completionTime|lastScheduleTime|lastSuccessfulTime|renewTime|lastTimestamp|eventTime)":\s*"([^"]*)"`)

// learnTimes looks for the newest time in an object, of whatever kind.
func (d *dump) learnTimes(raw []byte) {
	for _, found := range times.FindAllSubmatch(raw, -1) {
		if at, err := time.Parse(time.RFC3339, string(found[1])); err == nil && at.After(d.newest) {
			d.newest = at
		}
	}
}
