#include "support/case.h"

#include "base/buf.h"
#include "base/err.h"

static void test_keeps_order_across_growth_and_consumption(void **state)
{
	(void)state;
	struct buf b = BUF_INIT(1 << 20);
	uint32_t in = 0, out = 0;
	for (int round = 0; round < 2000; round++) {
		for (int i = 0; i < round % 37; i++)
			assert_int_equal(buf_add_u32(&b, in++), 0);
		while (b.len >= 4 && out + 20 < in) {
			const uint8_t *p = buf_data(&b);
			uint32_t v = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
			assert_int_equal(v, out++);
			buf_consume(&b, 4);
		}
	}
	assert_int_equal(b.len, 4 * (in - out));
	buf_free(&b);
}

static void test_stops_at_its_ceiling(void **state)
{
	(void)state;
	struct buf b = BUF_INIT(10);
	assert_int_equal(buf_add(&b, "12345678", 8), 0);
	assert_int_equal(buf_add(&b, "abc", 3), ERR_LIMIT);
	assert_int_equal(b.len, 8);
	assert_int_equal(buf_add(&b, "ab", 2), 0);
	assert_null(buf_reserve(&b, 1));
	buf_free(&b);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keeps_order_across_growth_and_consumption),
		cmocka_unit_test(test_stops_at_its_ceiling),
	};
	return RUN_CASES(tests);
}
