/* CpuFeatures=: what is hidden, what is shown, what is refused, and with which words. */
#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvm-glue/x86-features.h"

#define VMX    (1u << 5)
#define RDRAND (1u << 30)
#define AVX2   (1u << 5)

struct table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[3];
};

/* What a KVM supports: VMX, RDRAND and AVX2. */
static struct kvm_cpuid2 *new_table(uint32_t leaf1_ecx)
{
	struct kvm_cpuid2 *t = calloc(1, sizeof(struct table));

	t->nent = 2;
	t->entries[0] = (struct kvm_cpuid_entry2){.function = 1, .ecx = leaf1_ecx};
	t->entries[1] = (struct kvm_cpuid_entry2){.function = 7, .ebx = AVX2};
	return t;
}

static int apply(uint32_t supported_ecx, uint32_t offered_ecx, const char *text,
	struct kvm_cpuid_entry2 ret[2], struct error *e)
{
	const struct host host = {.backend = HOST_BACKEND_VMX};
	struct kvm_cpuid2 *supported = new_table(supported_ecx), *cpuid = new_table(offered_ecx);
	int r = x86_features_apply(&host, supported, cpuid, text, e);

	memcpy(ret, cpuid->entries, 2 * sizeof(ret[0]));
	free(supported);
	free(cpuid);
	return r;
}

static void nested_virtualization_is_on_request_only(void **state)
{
	struct kvm_cpuid_entry2 got[2];

	assert_int_equal(apply(VMX | RDRAND, VMX | RDRAND, "", got, NULL), 0);
	assert_int_equal(got[0].ecx, RDRAND);
	assert_int_equal(got[1].ebx, AVX2);
	assert_int_equal(apply(VMX | RDRAND, VMX | RDRAND, "+vmx", got, NULL), 0);
	assert_int_equal(got[0].ecx, VMX | RDRAND);
}

static void features_are_hidden_by_name(void **state)
{
	struct kvm_cpuid_entry2 got[2];

	assert_int_equal(apply(RDRAND, RDRAND, "  -rdrand   -avx2 -pku ", got, NULL), 0);
	assert_int_equal(got[0].ecx, 0);
	assert_int_equal(got[1].ebx, 0);
}

static void one_that_the_back_end_hides_comes_back_when_asked_for(void **state)
{
	struct kvm_cpuid_entry2 got[2];

	assert_int_equal(apply(RDRAND, 0, "+rdrand", got, NULL), 0);
	assert_int_equal(got[0].ecx, RDRAND);
}

static void what_the_host_lacks_is_refused_with_the_reason(void **state)
{
	struct kvm_cpuid_entry2 got[2];
	struct error e = {0};

	assert_int_equal(apply(RDRAND, RDRAND, "+vmx", got, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.text, "nested=1"));
	e.text[0] = '\0';
	assert_int_equal(apply(RDRAND, RDRAND, "-rdrand +avx512f", got, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.text, "+avx512f"));
	assert_int_equal(apply(RDRAND, RDRAND, "+svm", got, NULL), -EOPNOTSUPP); /* no such leaf */
}

static void words_that_are_no_features_are_named(void **state)
{
	static const char *const bad[] = {
		"avx2", "-avx3", "+", "-", "-avx2,-rdrand", "-avx2 rdrand"};
	struct error e = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(x86_features_check(bad[i], NULL), -EINVAL);
	assert_int_equal(x86_features_check("-avx2 -rdrnd", &e), -EINVAL);
	assert_non_null(strstr(e.text, "'-rdrnd'"));
	assert_int_equal(x86_features_check("", NULL), 0);
	assert_int_equal(x86_features_check("-avx2 +kvmclock", NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nested_virtualization_is_on_request_only),
		cmocka_unit_test(features_are_hidden_by_name),
		cmocka_unit_test(one_that_the_back_end_hides_comes_back_when_asked_for),
		cmocka_unit_test(what_the_host_lacks_is_refused_with_the_reason),
		cmocka_unit_test(words_that_are_no_features_are_named),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
