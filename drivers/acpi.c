/* ACPI table walk: see acpi.h. Fields are read through get16/32/64, which know neither alignment nor luck. */
#include "drivers/acpi.h"
#include "lib/bytes.h"
#include "lib/err.h"
#include "lib/rsdp.h"
#include "lib/string.h"

#define HEADER_BYTES            36U
#define TABLE_BYTES_MAX         (4 * MIB)
#define TABLES_MAX              256U

#define FADT_DSDT               40
#define FADT_PM1A_CNT           64
#define FADT_PM1B_CNT           68
#define FADT_PM_TIMER           76
#define FADT_PM_TIMER_LEN       91
#define FADT_FLAGS              112
#define FADT_RESET_REG          116
#define FADT_RESET_VALUE        128
#define FADT_X_DSDT             140
#define FADT_X_PM1A_CNT         172
#define FADT_X_PM1B_CNT         184
#define FADT_X_PM_TIMER         208
#define FADT_FLAG_TMR_VAL_EXT   BIT(8)
#define FADT_FLAG_RESET_REG_SUP BIT(10)
#define GAS_BYTES               12
#define GAS_MEMORY              0
#define GAS_IO                  1

#define MADT_ENTRIES            44
#define MADT_LOCAL_APIC         0
#define MADT_IOAPIC             1
#define MADT_OVERRIDE           2
#define MADT_LOCAL_X2APIC       9
#define MADT_CPU_ENABLED        1

#define SPCR_INTERFACE          36
#define SPCR_ADDRESS            40
#define SPCR_IRQ_TYPE           52
#define SPCR_IRQ                53
#define SPCR_GSI                54
#define SPCR_BAUD               58
#define SPCR_BYTES              59
#define SPCR_16550              0
#define SPCR_16450              1
#define SPCR_16550_GAS          0x12
#define SPCR_IRQ_8259           BIT(0)
#define SPCR_IRQ_IOAPIC         BIT(1)
#define GAS_DWORD               3

#define AML_NAME_OP             0x08
#define AML_PACKAGE_OP          0x12
#define AML_BYTE_PREFIX         0x0a

struct table {
	const u8 *data;
	u32 bytes; /* checked: data is readable that far */
};

static bool has_signature(const struct table *t, const char *sig)
{
	return memcmp(t->data, sig, 4) == 0;
}

static bool read_table(const struct acpi_reader *r, u64 pa, struct table *t)
{
	const u8 *head = pa ? r->view(r, pa, HEADER_BYTES) : NULL;
	u32 bytes;

	if (!head)
		return false;
	bytes = get32(head + 4);
	if (bytes < HEADER_BYTES || bytes > TABLE_BYTES_MAX)
		return false;
	t->data = r->view(r, pa, bytes);
	t->bytes = bytes;
	return t->data && acpi_sum_ok(t->data, bytes);
}

/* A register in I/O space from its old 32-bit field, or from the generic address that replaced it. */
static u16 io_register(const struct table *t, u32 old, u32 gas)
{
	u64 addr = old + 4 <= t->bytes ? get32(t->data + old) : 0;

	if (addr == 0 && gas + GAS_BYTES <= t->bytes && t->data[gas] == GAS_IO)
		addr = get64(t->data + gas + 4);
	return addr <= 0xffff ? (u16)addr : 0;
}

static void parse_reset(const struct table *t, struct machine *m)
{
	const u8 *gas = t->data + FADT_RESET_REG;

	if (t->bytes <= FADT_RESET_VALUE || !(get32(t->data + FADT_FLAGS) & FADT_FLAG_RESET_REG_SUP))
		return;
	if (gas[0] != GAS_MEMORY && gas[0] != GAS_IO)
		return;
	if (gas[0] == GAS_IO && get64(gas + 4) > 0xffff)
		return;
	m->reset = (struct machine_reg){.addr = get64(gas + 4), .bits = 8, .memory = gas[0] == GAS_MEMORY};
	m->reset_value = t->data[FADT_RESET_VALUE];
}

/* A package element as an integer constant; 0 bytes used: it is something else. */
static u32 aml_byte(const u8 *p, const u8 *end, u8 *value)
{
	if (p < end && (*p == 0 || *p == 1)) {
		*value = *p;
		return 1;
	}
	if (end - p >= 2 && *p == AML_BYTE_PREFIX) {
		*value = p[1];
		return 2;
	}
	return 0;
}

/* Name (\_S5, Package {a, b, ...}): `p` is behind the name. */
static bool parse_s5_package(const u8 *p, const u8 *end, struct machine *m)
{
	u8 a, b;
	u32 used;

	if (end - p < 2 || *p++ != AML_PACKAGE_OP)
		return false;
	p += 1 + (*p >> 6); /* PkgLength: the two top bits count its further bytes */
	p++;                /* NumElements */
	if (p >= end)
		return false;
	used = aml_byte(p, end, &a);
	if (!used || !aml_byte(p + used, end, &b) || a > 7 || b > 7)
		return false;
	m->s5_type_a = a;
	m->s5_type_b = b;
	m->s5_valid = true;
	return true;
}

static void find_s5(const struct table *t, struct machine *m)
{
	const u8 *p = t->data + HEADER_BYTES, *end = t->data + t->bytes;

	for (; end - p >= 5 && !m->s5_valid; p++) {
		if (*p == AML_NAME_OP && memcmp(p + 1, "_S5_", 4) == 0)
			parse_s5_package(p + 5, end, m);
		else if (*p == AML_NAME_OP && end - p >= 6 && memcmp(p + 1, "\\_S5_", 5) == 0)
			parse_s5_package(p + 6, end, m);
	}
}

static void parse_fadt(const struct acpi_reader *r, const struct table *t, struct machine *m)
{
	struct table dsdt;
	u64 pa;

	if (t->bytes < FADT_RESET_REG)
		return;
	m->pm_timer_port = io_register(t, FADT_PM_TIMER, FADT_X_PM_TIMER);
	m->pm_timer_32 = (get32(t->data + FADT_FLAGS) & FADT_FLAG_TMR_VAL_EXT) != 0;
	m->pm1a_cnt = io_register(t, FADT_PM1A_CNT, FADT_X_PM1A_CNT);
	m->pm1b_cnt = io_register(t, FADT_PM1B_CNT, FADT_X_PM1B_CNT);
	parse_reset(t, m);
	pa = get32(t->data + FADT_DSDT);
	if (pa == 0 && FADT_X_DSDT + 8 <= t->bytes)
		pa = get64(t->data + FADT_X_DSDT);
	if (read_table(r, pa, &dsdt))
		find_s5(&dsdt, m);
}

static void add_cpu(struct machine *m, u32 apic_id, u32 flags)
{
	if (!(flags & MADT_CPU_ENABLED) || m->cpu_count == MACHINE_CPUS_MAX)
		return;
	for (u32 i = 0; i < m->cpu_count; i++) /* some firmware lists a CPU as APIC and as x2APIC */
		if (m->cpu_apic_id[i] == apic_id)
			return;
	m->cpu_apic_id[m->cpu_count++] = apic_id;
}

static void add_ioapic(struct machine *m, u32 addr, u32 gsi_base)
{
	if (m->ioapic_count == MACHINE_IOAPICS_MAX)
		return;
	m->ioapic[m->ioapic_count].addr = addr;
	m->ioapic[m->ioapic_count++].gsi_base = gsi_base;
}

static void add_override(struct machine *m, u8 line, u32 gsi, u16 flags)
{
	if (line >= ISA_LINES)
		return;
	m->isa[line].gsi = gsi;
	m->isa[line].active_low = (flags & 3) == 3;
	m->isa[line].level = (flags >> 2 & 3) == 3;
}

static void parse_madt(const struct table *t, struct machine *m)
{
	const u8 *p = t->data + MIN((u32)MADT_ENTRIES, t->bytes), *end = t->data + t->bytes;

	for (; end - p >= 2 && p[1] >= 2 && end - p >= p[1]; p += p[1]) {
		if (p[0] == MADT_LOCAL_APIC && p[1] >= 8)
			add_cpu(m, p[3], get32(p + 4));
		else if (p[0] == MADT_LOCAL_X2APIC && p[1] >= 16)
			add_cpu(m, get32(p + 4), get32(p + 8));
		else if (p[0] == MADT_IOAPIC && p[1] >= 12)
			add_ioapic(m, get32(p + 4), get32(p + 8));
		else if (p[0] == MADT_OVERRIDE && p[1] >= 10)
			add_override(m, p[3], get32(p + 4), get16(p + 8));
	}
}

static u32 spcr_baud(u8 code)
{
	static const u32 baud[] = {[3] = 9600, [4] = 19200, [6] = 57600, [7] = 115200};

	return code < ARRAY_SIZE(baud) ? baud[code] : 0;
}

static u8 spcr_line(const struct table *t)
{
	u32 line = MACHINE_LINE_NONE;

	if (t->data[SPCR_IRQ_TYPE] & SPCR_IRQ_8259)
		line = t->data[SPCR_IRQ];
	else if (t->data[SPCR_IRQ_TYPE] & SPCR_IRQ_IOAPIC)
		line = get32(t->data + SPCR_GSI);
	return line < ISA_LINES ? line : MACHINE_LINE_NONE;
}

/*
 * The serial console of the firmware. A table for another kind of UART, or with console redirection off, is the same as
 * none.
 */
static void parse_spcr(const struct table *t, struct machine *m)
{
	const u8 *gas = t->data + SPCR_ADDRESS;
	u8 kind;
	u64 addr;

	if (t->bytes < SPCR_BYTES)
		return;
	kind = t->data[SPCR_INTERFACE];
	addr = get64(gas + 4);
	if ((kind != SPCR_16550 && kind != SPCR_16450 && kind != SPCR_16550_GAS) || gas[0] > GAS_IO ||
	    (gas[0] == GAS_IO && addr > 0xfff8) || addr > BITS(51, 0))
		return;
	m->serial = (struct machine_serial){.addr = addr,
					    .memory = gas[0] == GAS_MEMORY,
					    .stride = 1,
					    .line = spcr_line(t),
					    .baud = spcr_baud(t->data[SPCR_BAUD])};
	if (m->serial.memory && (gas[1] == 32 || gas[3] == GAS_DWORD))
		m->serial.stride = 4;
}

static void parse_table(const struct acpi_reader *r, u64 pa, struct machine *m, u32 *bad)
{
	struct table t;

	if (!read_table(r, pa, &t)) {
		(*bad)++;
		return;
	}
	if (has_signature(&t, "FACP"))
		parse_fadt(r, &t, m);
	else if (has_signature(&t, "APIC"))
		parse_madt(&t, m);
	else if (has_signature(&t, "SPCR"))
		parse_spcr(&t, m);
	else if (has_signature(&t, "SSDT"))
		find_s5(&t, m);
}

static void walk_root(const struct acpi_reader *r, const struct table *root, u32 entry_bytes, struct machine *m,
		      u32 *bad)
{
	u32 count = MIN((root->bytes - HEADER_BYTES) / entry_bytes, TABLES_MAX);
	const u8 *p = root->data + HEADER_BYTES;

	for (u32 i = 0; i < count; i++, p += entry_bytes)
		parse_table(r, entry_bytes == 8 ? get64(p) : get32(p), m, bad);
}

int acpi_parse(const struct acpi_reader *r, u64 rsdp, struct machine *m, u32 *bad)
{
	const u8 *p = rsdp ? r->view(r, rsdp, RSDP1_BYTES) : NULL;
	struct table root;
	u64 xsdt = 0, rsdt;

	*bad = 0;
	if (!p)
		return E_NOENT;
	if (!rsdp_is_valid(p))
		return E_INVAL;
	rsdt = get32(p + 16);
	if (p[RSDP_REVISION] >= 2) {
		p = r->view(r, rsdp, RSDP2_BYTES);
		xsdt = p && acpi_sum_ok(p, RSDP2_BYTES) ? get64(p + 24) : 0;
	}
	if (read_table(r, xsdt, &root) && has_signature(&root, "XSDT"))
		walk_root(r, &root, 8, m, bad);
	else if (read_table(r, rsdt, &root) && has_signature(&root, "RSDT"))
		walk_root(r, &root, 4, m, bad);
	else
		return E_INVAL;
	m->acpi = true;
	return 0;
}
