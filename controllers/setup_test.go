package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// managerOf has a client and nothing else.
type managerOf struct {
	ctrl.Manager
	client client.Client
}

func (m managerOf) GetClient() client.Client { return m.client }

// The injector's ConfigMaps are watched only where the account may both list and watch them: an
// informer that may not would keep the operator from ever starting.
func TestInjectorSettingsAreReadWhereThatIsAllowed(t *testing.T) {
	w := apiServer(t)
	for _, test := range []struct {
		verbs []string
		want  bool
	}{
		{nil, false},
		{[]string{"list"}, false},
		{[]string{"watch"}, false},
		{[]string{"get", "list", "watch"}, true},
	} {
		t.Run(fmt.Sprint(test.verbs), func(t *testing.T) {
			there, elsewhere := w.namespace(t), w.namespace(t)
			user := "reader-" + there
			if len(test.verbs) > 0 {
				w.create(t, &rbacv1.Role{
					ObjectMeta: metav1.ObjectMeta{Namespace: there, Name: "reader"},
					Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: test.verbs}},
				})
				w.create(t, &rbacv1.RoleBinding{
					ObjectMeta: metav1.ObjectMeta{Namespace: there, Name: "reader"},
					RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
					Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
				})
			}
			m := managerOf{client: w.as(t, user)}
			eventually(t, "the role is in force", func(ctx context.Context) error {
				if got, err := canRead(ctx, m, there, "configmaps"); err != nil || got != test.want {
					return errors.Join(fmt.Errorf("may be read: %t", got), err)
				}
				return nil
			})
			if got, err := canRead(t.Context(), m, elsewhere, "configmaps"); err != nil || got {
				t.Errorf("in another namespace they may be read: %t, %v", got, err)
			}
		})
	}
}

func TestWhereItCannotBeToldWhatMayBeReadIsAnError(t *testing.T) {
	m := managerOf{client: answering(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, object client.Object, _ ...client.CreateOption) error {
			if _, is := object.(*authorizationv1.SelfSubjectAccessReview); !is {
				t.Errorf("a %T is created", object)
			}
			return errors.New("no answer")
		},
	})}
	if _, err := canRead(t.Context(), m, istioNamespace, "configmaps"); err == nil || !strings.Contains(err.Error(), "asking whether configmaps in istio-system may be read: no answer") {
		t.Errorf("the error is %v", err)
	}
}

// A standby's informers are not started: the first lists of a new leader must be newer than all that
// the former one wrote.
func TestInformersStartWithTheLease(t *testing.T) {
	var runnable manager.LeaderElectionRunnable = whenLeading{}
	if !runnable.NeedLeaderElection() {
		t.Error("informers start before the lease is held")
	}
}
