package command

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
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
	// newest is the newest time that any object tells of.
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

// place is where something stands.
type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

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
	for _, kind := range append(controllers.Kinds(), &v1alpha1.MeshPolicy{}, &v1alpha1.MeshReport{}) {
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
		data, err := io.ReadAll(stdin)
		if err != nil {
			return fmt.Errorf("reading %s: %w", stdinWords, err)
		}
		return d.read(stdinWords, data)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return d.readFile(path)
	}
	found := false
	// WalkDir goes by name, so that the order is always the same.
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
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return d.read(path, data)
}

// read reads a file of JSON objects one after the other, or of YAML documents. What begins as JSON
// objects do is read as such: that is faster.
func (d *dump) read(file string, data []byte) error {
	data = inUTF8(data)
	if beginsAsJSON.Match(data) && !strings.HasPrefix(strings.ToLower(filepath.Ext(file)), ".y") {
		return d.readJSON(file, data)
	}
	return d.readYAML(file, data)
}

var beginsAsJSON = regexp.MustCompile(`^\s*\{\s*["}]`)

// inUTF8 takes away a byte order mark, and the encoding that PowerShell's > writes.
func inUTF8(data []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte{0xEF, 0xBB, 0xBF}):
		return data[3:]
	case bytes.HasPrefix(data, []byte{0xFF, 0xFE}):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte{0xFE, 0xFF}):
		order = binary.BigEndian
	default:
		return data
	}
	var units []uint16
	for rest := data[2:]; len(rest) >= 2; rest = rest[2:] {
		units = append(units, order.Uint16(rest))
	}
	return []byte(string(utf16.Decode(units)))
}

// entry is one object in JSON. A list gives its items the version and kind that they have not.
type entry struct {
	place
	raw              []byte
	apiVersion, kind string
}

func (d *dump) readJSON(file string, data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	for {
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return place{file, lineOf(data, whereJSONBreaks(err, data))}.fail("%w", inPlainWords(err))
		}
		start := int(decoder.InputOffset()) - len(raw)
		if err := d.readJSONDocument(entry{place: place{file, lineOf(data, start)}, raw: raw}, data, start); err != nil {
			return err
		}
	}
}

// readJSONDocument reads an object, or the items of a list. The document is well formed.
func (d *dump) readJSONDocument(document entry, data []byte, start int) error {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	meta, isObject := typeOf(document.raw)
	if !isObject || !isList(meta.Kind) || json.Unmarshal(document.raw, &list) != nil {
		return d.add(document)
	}
	// What precedes an item is not kept by the decoder: it is found again after the one before.
	from, line := start, document.line
	for _, item := range list.Items {
		gap := max(bytes.Index(data[from:], item), 0)
		line += bytes.Count(data[from:from+gap], []byte("\n"))
		err := d.add(entry{place: place{document.file, line}, raw: item, apiVersion: meta.APIVersion, kind: itemKind(meta.Kind)})
		if err != nil {
			return err
		}
		line += bytes.Count(item, []byte("\n"))
		from += gap + len(item)
	}
	return nil
}

// whereJSONBreaks is the offset at which JSON cannot be read on: that of the error, or the end.
func whereJSONBreaks(err error, data []byte) int {
	if syntax, is := errors.AsType[*json.SyntaxError](err); is {
		return int(syntax.Offset) - 1
	}
	return len(data)
}

func lineOf(data []byte, offset int) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), len(data))], []byte("\n"))
}

func (d *dump) readYAML(file string, data []byte) error {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return yamlFails(file, 1, err)
		}
		if len(document.Content) == 0 || document.Content[0].Tag == "!!null" {
			continue
		}
		if err := d.readYAMLDocument(file, document.Content[0]); err != nil {
			return err
		}
	}
}

func (d *dump) readYAMLDocument(file string, root *yaml.Node) error {
	apiVersion, kind, items := fieldOf(root, "apiVersion"), fieldOf(root, "kind"), fieldOf(root, "items")
	if kind == nil || !isList(kind.Value) || items == nil || items.Kind != yaml.SequenceNode {
		return d.addYAML(entry{place: place{file, root.Line}}, root)
	}
	inherited := entry{kind: itemKind(kind.Value)}
	if apiVersion != nil {
		inherited.apiVersion = apiVersion.Value
	}
	for _, item := range items.Content {
		inherited.place = place{file, item.Line}
		if err := d.addYAML(inherited, item); err != nil {
			return err
		}
	}
	return nil
}

// addYAML adds an object by way of JSON, in which the API's types are defined.
func (d *dump) addYAML(object entry, node *yaml.Node) error {
	var content any
	if err := node.Decode(&content); err != nil {
		return yamlFails(object.file, object.line, err)
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return object.fail("it has keys or numbers that JSON does not know: %w", inPlainWords(err))
	}
	object.raw = raw
	return d.add(object)
}

func fieldOf(mapping *yaml.Node, name string) *yaml.Node {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

// yamlFails finds in the library's error the line, which counts from the beginning of the file.
func yamlFails(file string, line int, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		if number, failed := strconv.Atoi(found[1]); failed == nil {
			line, text = number, found[2]
		}
	}
	return place{file, line}.fail("%s", text)
}

func inPlainWords(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends in the middle of an object")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// typeMeta is what says of which type an object is.
type typeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

func typeOf(raw []byte) (typeMeta, bool) {
	var meta typeMeta
	err := json.Unmarshal(raw, &meta)
	return meta, err == nil
}

func isList(kind string) bool { return strings.HasSuffix(kind, "List") }

// itemKind is what the items of a list are of by default; nothing where they may be of any.
func itemKind(list string) string { return strings.TrimSuffix(list, "List") }

// add takes in an object of a kind that is looked at, and counts others.
func (d *dump) add(object entry) error {
	meta, isObject := typeOf(object.raw)
	if meta.Kind == "" {
		meta = typeMeta{object.apiVersion, object.kind}
	}
	if !isObject || meta.Kind == "" {
		if d.withoutKind == nil {
			d.withoutKind = new(object.place)
		}
		return nil
	}
	d.learnTimes(object.raw)
	gvk := schema.FromAPIVersionAndKind(meta.APIVersion, meta.Kind)
	kind, known := d.kinds[gvk]
	if !known {
		d.passedOver[d.nameOf(gvk)]++
		return nil
	}
	decoded := kind.create()
	if err := decode(object.raw, decoded); err != nil {
		return object.fail("reading a %s: %w", gvk.Kind, inPlainWords(err))
	}
	return d.put(object.place, gvk.GroupKind(), kind, decoded)
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
var times = regexp.MustCompile(`"(?:creationTimestamp|time|lastTransitionTime|lastUpdateTime|lastHeartbeatTime|startTime|startedAt|finishedAt|completionTime|lastScheduleTime|lastSuccessfulTime|renewTime|lastTimestamp|eventTime)":\s*"([^"]*)"`)

// learnTimes looks for the newest time in an object, of whatever kind.
func (d *dump) learnTimes(raw []byte) {
	for _, found := range times.FindAllSubmatch(raw, -1) {
		if at, err := time.Parse(time.RFC3339, string(found[1])); err == nil && at.After(d.newest) {
			d.newest = at
		}
	}
}
