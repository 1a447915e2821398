package inventory

import "k8s.io/apimachinery/pkg/types"

// resolveTemplate is the object with its template, which may be that of another workload.
func (i *Inventory) resolveTemplate(object *Object) *Object {
	if !object.hasTemplateRef() {
		return object
	}
	if i.templateRefs[object.TemplateOf] == nil {
		i.templateRefs[object.TemplateOf] = map[types.UID]*Object{}
	}
	i.templateRefs[object.TemplateOf][object.UID] = object
	source, found := i.workloads[object.TemplateOf]
	if !found {
		return object
	}
	i.touch(source)
	return object.withTemplateFrom(source.object)
}

// propagateTemplate gives the template, after it may have changed, to those that take it from the workload.
func (i *Inventory) propagateTemplate(source *workload) {
	for _, object := range i.templateRefs[source.key] {
		if user, found := i.workloads[object.Key()]; found {
			user.object = object.withTemplateFrom(source.object)
			i.touch(user)
		}
	}
}

// releaseTemplate forgets that the object takes its template from another workload.
func (i *Inventory) releaseTemplate(object *Object) {
	if !object.hasTemplateRef() {
		return
	}
	delete(i.templateRefs[object.TemplateOf], object.UID)
	if len(i.templateRefs[object.TemplateOf]) == 0 {
		delete(i.templateRefs, object.TemplateOf)
	}
	if source, found := i.workloads[object.TemplateOf]; found {
		i.touch(source)
	}
}
