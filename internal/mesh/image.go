package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	// autoImage is what owners write who bring a container istio-proxy and leave its image to
	// injection.
	autoImage = "auto"
	// defaultImageType is the image without a suffix.
	defaultImageType = "default"
)

// imageTypes are the suffixes of the images that Istio publishes.
var imageTypes = []string{"distroless", "debug"}

// imageValues is what an injector's values say of the proxy's image.
type imageValues struct {
	hub, tag, variant, image string
	// known says that the values could be read.
	known bool
}

func readImageValues(text string) imageValues {
	var values struct {
		Global struct {
			Hub     string `json:"hub"`
			Tag     any    `json:"tag"`
			Variant string `json:"variant"`
			Proxy   struct {
				Image string `json:"image"`
			} `json:"proxy"`
		} `json:"global"`
	}
	if text == "" || yaml.Unmarshal([]byte(text), &values) != nil || values.Global.Tag == nil {
		return imageValues{}
	}
	return imageValues{
		hub:     values.Global.Hub,
		tag:     fmt.Sprint(values.Global.Tag),
		variant: values.Global.Variant,
		image:   values.Global.Proxy.Image,
		known:   true,
	}
}

// imageTypeOf reads the type of image from a ProxyConfig in YAML.
func imageTypeOf(proxyConfig string) string {
	var content struct {
		Image struct {
			ImageType string `json:"imageType"`
		} `json:"image"`
	}
	if yaml.Unmarshal([]byte(proxyConfig), &content) != nil {
		return ""
	}
	return content.Image.ImageType
}

// defaultImageTypeOf reads the type of image that a mesh configuration asks for.
func defaultImageTypeOf(meshConfig string) string {
	var content struct {
		DefaultConfig struct {
			Image struct {
				ImageType string `json:"imageType"`
			} `json:"image"`
		} `json:"defaultConfig"`
	}
	if yaml.Unmarshal([]byte(meshConfig), &content) != nil {
		return ""
	}
	return content.DefaultConfig.Image.ImageType
}

// imageFor is the image of the proxy that a template would get (pkg/kube/inject/inject.go,
// ProxyImage, and the first lines of the container in files/injection-template.yaml). Empty where
// it cannot be told: injection templates that are not Istio's, values that cannot be read.
func (c *config) imageFor(template *Template) string {
	if own, brought := ownProxy(template); brought && own != autoImage {
		return own
	}
	names := c.templatesFor(template)
	if !c.image.known || len(names) != 1 || !slices.Contains(c.usesProxyImage, names[0]) || hasKey(template.Annotations, overridesAnnotation) {
		return ""
	}
	if asked := cmp.Or(template.Annotations[proxyImageAnnotation], c.image.image); strings.Contains(asked, "/") {
		return asked
	}
	kind := cmp.Or(imageTypeOf(template.Annotations[proxyConfigAnnotation]), c.imageType, c.image.variant)
	if asked, annotated := template.Annotations[proxyImageTypeAnnotation]; annotated {
		kind = asked
	}
	return c.image.hub + "/" + cmp.Or(c.image.image, "proxyv2") + ":" + ofImageType(c.image.tag, kind)
}

// ownProxy is the image of a container istio-proxy that the template brings, and whether it brings
// one. The image is empty where the container was left there by an injection: whether another one
// replaces it or takes it for the owner's depends on where it stands, and on the nodes.
func ownProxy(template *Template) (image string, brought bool) {
	if template.Spec == nil {
		return "", false
	}
	proxy, _ := findProxy(template.Spec)
	switch {
	case proxy == nil:
		return "", false
	case hasKey(template.Annotations, statusAnnotation):
		return "", true
	default:
		return proxy.Image, true
	}
}

// ofImageType is the tag of another type of the same image.
func ofImageType(tag, kind string) string {
	if kind == "" {
		return tag
	}
	for _, known := range imageTypes {
		if plain, found := strings.CutSuffix(tag, "-"+known); found {
			tag = plain
			break
		}
	}
	if kind == defaultImageType {
		return tag
	}
	return tag + "-" + kind
}

// isOtherImage reports whether a Pod runs another image than it would get, by the tag and with it
// the type: registries are mirrored, and digests say nothing of the version.
func isOtherImage(expected, observed string) bool {
	want, got := tagOf(expected), tagOf(observed)
	return want != "" && got != "" && want != got
}

// tagOf is empty for images that are named by a digest or by no tag.
func tagOf(image string) string {
	if strings.Contains(image, "@") {
		return ""
	}
	name := image[strings.LastIndex(image, "/")+1:]
	_, tag, _ := strings.Cut(name, ":")
	return tag
}
