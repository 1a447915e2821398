package matchcondition

import (
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// references are what an expression looks at.
type references struct {
	// paths are from one of the request's variables down, such as object metadata labels app.
	paths []path
	// fields are the names of all fields, of whatever.
	fields []string
}

type path struct {
	fields []string
	// presence says that only whether it is there is asked.
	presence bool
}

// referencesOf reads what an expression looks at; nothing where it is no expression, which
// evaluating it tells.
func (e *Evaluator) referencesOf(text string) references {
	parsed, issues := e.environment.StoredExpressionsEnv().Parse(text)
	if issues != nil && issues.Err() != nil {
		return references{}
	}
	var found references
	found.visit(parsed.NativeRep().Expr())
	return found
}

func (r *references) visit(expression ast.Expr) {
	if way, presence := pathOf(expression); way != nil {
		switch way[0] {
		case "object", "request", "authorizer":
			r.paths = append(r.paths, path{way, presence})
		}
		r.fields = append(r.fields, way[1:]...)
	}
	switch expression.Kind() {
	case ast.CallKind:
		r.visitCall(expression.AsCall())
	case ast.ComprehensionKind:
		comprehension := expression.AsComprehension()
		for _, part := range []ast.Expr{
			comprehension.IterRange(), comprehension.AccuInit(),
			comprehension.LoopCondition(), comprehension.LoopStep(), comprehension.Result(),
		} {
			r.visit(part)
		}
	case ast.ListKind:
		for _, element := range expression.AsList().Elements() {
			r.visit(element)
		}
	case ast.MapKind:
		for _, entry := range expression.AsMap().Entries() {
			r.visit(entry.AsMapEntry().Key())
			r.visit(entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		for _, field := range expression.AsStruct().Fields() {
			r.visit(field.AsStructField().Value())
		}
	case ast.SelectKind:
		r.visitOperand(expression.AsSelect().Operand())
	}
}

func (r *references) visitCall(call ast.CallExpr) {
	if call.IsMemberFunction() {
		r.visit(call.Target())
	}
	// Of a path, what it leads through is not looked at by itself.
	if isStep(call) {
		r.visitOperand(call.Args()[0])
		r.visit(call.Args()[1])
		return
	}
	for _, argument := range call.Args() {
		r.visit(argument)
	}
}

// visitOperand visits what a field is taken of, unless it is part of the same path.
func (r *references) visitOperand(operand ast.Expr) {
	if way, _ := pathOf(operand); way == nil {
		r.visit(operand)
	}
}

// pathOf reads variable.field["key"] from the outside in; nil where it does not begin with a
// variable.
func pathOf(expression ast.Expr) (way []string, presence bool) {
	switch expression.Kind() {
	case ast.IdentKind:
		return []string{expression.AsIdent()}, false
	case ast.SelectKind:
		selected := expression.AsSelect()
		if way, _ := pathOf(selected.Operand()); way != nil {
			return append(way, selected.FieldName()), selected.IsTestOnly()
		}
	case ast.CallKind:
		call := expression.AsCall()
		if !isStep(call) || call.Args()[1].Kind() != ast.LiteralKind {
			return nil, false
		}
		key, isText := call.Args()[1].AsLiteral().(types.String)
		if way, _ := pathOf(call.Args()[0]); way != nil && isText {
			return append(way, string(key)), false
		}
	}
	return nil, false
}

// isStep reports whether a call takes a field or an element.
func isStep(call ast.CallExpr) bool {
	switch call.FunctionName() {
	case operators.Index, operators.OptIndex, operators.OptSelect:
		return len(call.Args()) == 2
	default:
		return false
	}
}

// unknownIn names what the expression looks at and nobody knows of the request; empty where
// everything is known.
func (r *references) unknownIn(request mesh.MatchRequest) string {
	for _, path := range r.paths {
		if unknown := path.unknownIn(request); unknown != "" {
			return unknown
		}
	}
	return r.unknownField(request)
}

// unknownIn names the path where it leads to something that is not known.
func (p path) unknownIn(request mesh.MatchRequest) string {
	unknown := strings.Join(p.fields, ".")
	switch {
	case p.fields[0] == "authorizer":
		return "what the request's user may do"
	case len(p.fields) == 1:
		return ""
	case p.fields[0] == "request":
		return unknownUnless(slices.Contains(knownOfRequest, p.fields[1]), unknown)
	case p.fields[1] == "kind", p.fields[1] == "apiVersion":
		return ""
	case request.Injected:
		return unknown + ", which an earlier webhook may have changed"
	case p.fields[1] == "metadata":
		return p.unknownInMetadata(request, unknown)
	case p.fields[1] == "spec":
		return p.unknownInSpec(request, unknown)
	default:
		return unknown
	}
}

func unknownUnless(known bool, unknown string) string {
	if known {
		return ""
	}
	return unknown
}

// knownOfRequest are the fields of the request that are the same for every Pod of a template,
// whoever creates it.
var knownOfRequest = []string{
	"kind", "resource", "subResource", "requestKind", "requestResource", "requestSubResource",
	"namespace", "operation", "dryRun",
}

func (p path) unknownInMetadata(request mesh.MatchRequest, unknown string) string {
	if len(p.fields) == 2 {
		return unknown
	}
	switch p.fields[2] {
	case "namespace", "annotations":
		return ""
	case "labels":
		added := len(p.fields) > 3 && !p.presence && slices.Contains(mesh.LabelsAddedBy(request.Template.Kind), p.fields[3])
		_, given := request.Template.Labels[p.fields[min(3, len(p.fields)-1)]]
		return unknownUnless(!added || given, unknown)
	case "ownerReferences":
		return unknownUnless(request.Template.Kind != "", unknown)
	default:
		return unknown
	}
}

func (p path) unknownInSpec(request mesh.MatchRequest, unknown string) string {
	switch {
	case len(p.fields) > 2 && p.fields[2] == "hostNetwork" && request.Template.HostNetwork:
		return ""
	case request.Template.Spec == nil:
		return unknown
	case len(p.fields) == 2:
		return unknown
	}
	spec := request.Template.Spec
	switch p.fields[2] {
	case "priorityClassName":
		return unknownUnless(spec.PriorityClassName != "", unknown+", which a default class may set")
	case "priority", "preemptionPolicy", "overhead", "imagePullSecrets", "volumes":
		return unknown + ", which admission may set"
	case "tolerations", "affinity":
		return unknownUnless(!mesh.KindNamed(request.Template.Kind).OnEveryNode, unknown+", which the DaemonSet's controller sets")
	case "hostname", "subdomain":
		return unknownUnless(!mesh.KindNamed(request.Template.Kind).ByOrdinal, unknown+", which the StatefulSet's controller sets")
	default:
		return ""
	}
}

// unknownField names a field deep inside that admission or a controller may set.
func (r *references) unknownField(request mesh.MatchRequest) string {
	looksAtOwners := slices.ContainsFunc(r.paths, func(p path) bool { return slices.Contains(p.fields, "ownerReferences") })
	for _, field := range r.fields {
		switch field {
		case "resources", "volumeMounts":
			return field + " of containers, which admission may set"
		case "hostPort":
			if request.Template.HostNetwork {
				return field + " of containers, which is set with the host's network"
			}
		case "name", "uid":
			if looksAtOwners {
				return field + " of the Pod's owner"
			}
		}
	}
	return ""
}
