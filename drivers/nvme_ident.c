/* What an NVMe controller and its namespaces say of themselves. Copied out field by field and checked. */
#include "drivers/nvme.h"

#include "lib/bytes.h"
#include "lib/err.h"
#include "lib/format.h"
#include "lib/log.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define LBA_SHIFT_512 9
#define LBA_SHIFT_4K  12

static int identify(struct nvme_ctrl *c, u32 cns, u32 nsid, hfn_t page)
{
	struct nvme_command cmd = {
	    .opcode_cid = NVME_ADMIN_IDENTIFY,
	    .nsid = nsid,
	    .prp1 = hfn_to_hpa(page).v,
	    .cdw10 = cns,
	};
	u32 result;

	page_clear(mm_hfn_to_va(page));
	return nvme_admin_sync(c, &cmd, &result);
}

/* Padded with spaces, and not to be trusted with anything unprintable. */
static void copy_model(char *to, size_t size, const u8 *from, size_t len)
{
	size_t end = 0;

	for (size_t i = 0; i < len && i < size - 1; i++) {
		to[i] = from[i] >= ' ' && from[i] < 0x7f ? (char)from[i] : '?';
		if (from[i] == '\0')
			to[i] = ' ';
		if (to[i] != ' ')
			end = i + 1;
	}
	to[end] = '\0';
}

static void add_namespace(struct nvme_ctrl *c, u32 nsid, const u8 *id, const char *model)
{
	const u8 *format = id + NVME_IDN_LBAF + 4 * (id[NVME_IDN_FLBAS] & 0xf);
	u64 blocks = get64(id + NVME_IDN_NSZE);
	u32 shift = format[2], metadata = format[0] | format[1] << 8;
	struct nvme_ns *ns = &c->ns[c->ns_count];

	if (blocks == 0)
		return; /* inactive */
	if ((shift != LBA_SHIFT_512 && shift != LBA_SHIFT_4K) || metadata || blocks >> 48) {
		log_warn("nvme", "%sn%u: format not supported (2^%u bytes a block, %u of metadata, %llu blocks)",
			 c->name, nsid, shift, metadata, (unsigned long long)blocks);
		return;
	}
	if (c->ns_count == NVME_NAMESPACES_MAX) {
		log_warn("nvme", "%sn%u: too many namespaces", c->name, nsid);
		return;
	}
	*ns = (struct nvme_ns){.ctrl = c, .nsid = nsid, .lba_shift = shift};
	format_buf(ns->dev.name, sizeof(ns->dev.name), "%sn%u", c->name, nsid);
	str_copy(ns->dev.model, model, sizeof(ns->dev.model));
	ns->dev.sectors = blocks << (shift - LBA_SHIFT_512);
	ns->dev.sector_bytes = 1U << shift;
	ns->dev.queue_depth = c->io.entries - 1;
	ns->dev.polled = !c->interrupts;
	ns->dev.ops = &nvme_blk_ops;
	ns->dev.priv = ns;
	c->ns_count++;
}

/* Identifiers of active namespaces, ascending; older controllers have no list, only a highest number. */
static u32 list_namespaces(struct nvme_ctrl *c, hfn_t page, u32 highest, u32 *nsid)
{
	const u8 *id = mm_hfn_to_va(page);
	u32 count = 0;

	if (!identify(c, NVME_IDENTIFY_ACTIVE_LIST, 0, page)) {
		while (count < NVME_NAMESPACES_MAX && get32(id + 4 * count)) {
			nsid[count] = get32(id + 4 * count);
			count++;
		}
		return count;
	}
	for (; count < MIN(highest, NVME_NAMESPACES_MAX); count++)
		nsid[count] = count + 1;
	return count;
}

static int identify_with(struct nvme_ctrl *c, hfn_t page)
{
	const u8 *id = mm_hfn_to_va(page);
	u32 nsid[NVME_NAMESPACES_MAX], count, mdts, highest;
	char model[NVME_IDC_MODEL_BYTES + 1];
	int err = identify(c, NVME_IDENTIFY_CONTROLLER, 0, page);

	if (err)
		return err;
	copy_model(model, sizeof(model), id + NVME_IDC_MODEL, NVME_IDC_MODEL_BYTES);
	mdts = id[NVME_IDC_MDTS];
	c->max_pages = mdts && mdts < 5 ? 1U << mdts : BLK_PAGES_MAX;
	c->write_cache = id[NVME_IDC_VWC] & 1;
	highest = get32(id + NVME_IDC_NN);
	count = list_namespaces(c, page, highest, nsid);
	for (u32 i = 0; i < count && c->state == NVME_RUNNING; i++)
		if (!identify(c, NVME_IDENTIFY_NAMESPACE, nsid[i], page))
			add_namespace(c, nsid[i], id, model);
	return c->state == NVME_RUNNING ? 0 : E_NODEV;
}

int nvme_identify(struct nvme_ctrl *c)
{
	hfn_t page = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	int err;

	if (page == HFN_NONE)
		return E_NOMEM;
	err = identify_with(c, page);
	/* A controller that was given up has been stopped: the page is ours again either way. */
	frame_free(page, 0);
	return err;
}
