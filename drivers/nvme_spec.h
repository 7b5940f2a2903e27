/* NVM Express: registers, queue entries and the fields of identify data that we use. Names follow the specification. */
#ifndef DRIVERS_NVME_SPEC_H
#define DRIVERS_NVME_SPEC_H

#include "lib/types.h"

/* Controller registers */
#define NVME_REG_CAP         0x00 /* 64 bits */
#define NVME_REG_VS          0x08
#define NVME_REG_INTMS       0x0c
#define NVME_REG_CC          0x14
#define NVME_REG_CSTS        0x1c
#define NVME_REG_AQA         0x24
#define NVME_REG_ASQ         0x28 /* 64 bits */
#define NVME_REG_ACQ         0x30 /* 64 bits */
#define NVME_REG_DOORBELLS   0x1000

#define NVME_CAP_MQES(cap)   ((u32)(cap)&0xffff)
#define NVME_CAP_TO(cap)     ((u32)((cap) >> 24) & 0xff) /* units of 500 ms */
#define NVME_CAP_DSTRD(cap)  ((u32)((cap) >> 32) & 0xf)
#define NVME_CAP_CSS_NVM     BIT(37)
#define NVME_CAP_MPSMIN(cap) ((u32)((cap) >> 48) & 0xf)

#define NVME_CC_EN           BIT(0)
#define NVME_CC_SHN_MASK     (3U << 14)
#define NVME_CC_SHN_NORMAL   (1U << 14)
#define NVME_CC_IOSQES_64    (6U << 16)
#define NVME_CC_IOCQES_16    (4U << 20)

#define NVME_CSTS_RDY        BIT(0)
#define NVME_CSTS_CFS        BIT(1)
#define NVME_CSTS_SHST_MASK  (3U << 2)
#define NVME_CSTS_SHST_DONE  (2U << 2)
#define NVME_CSTS_REMOVED    0xffffffffU /* what a read of a vanished device gives */

/* Opcodes */
#define NVME_ADMIN_CREATE_SQ      0x01
#define NVME_ADMIN_CREATE_CQ      0x05
#define NVME_ADMIN_IDENTIFY       0x06
#define NVME_ADMIN_ABORT          0x08
#define NVME_ADMIN_SET_FEATURES   0x09
#define NVME_IO_FLUSH             0x00
#define NVME_IO_WRITE             0x01
#define NVME_IO_READ              0x02

#define NVME_FEATURE_QUEUES       0x07
#define NVME_IDENTIFY_NAMESPACE   0
#define NVME_IDENTIFY_CONTROLLER  1
#define NVME_IDENTIFY_ACTIVE_LIST 2

#define NVME_QUEUE_CONTIGUOUS     BIT(0)
#define NVME_CQ_INTERRUPTS        BIT(1)

/* Status field of a completion without its phase bit: status code, code type, do not retry */
#define NVME_STATUS_CODE(s)     ((s)&0x7ff)
#define NVME_STATUS_DNR         BIT(14)
#define NVME_SC_ABORT_REQUESTED 0x07
#define NVME_SC_SQ_DELETED      0x08
#define NVME_SC_NS_NOT_READY    0x82
#define NVME_SCT_PATH           0x300

struct nvme_command {
	u32 opcode_cid; /* opcode 7:0, command id 31:16 */
	u32 nsid;
	u64 reserved;
	u64 metadata;
	u64 prp1, prp2;
	u32 cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
static_assert_size(struct nvme_command, 64);

struct nvme_completion {
	u32 result;
	u32 reserved;
	u16 sq_head, sq_id;
	u32 cid_status; /* command id 15:0, phase 16, status 31:17 */
};
static_assert_size(struct nvme_completion, 16);

/* Identify controller */
#define NVME_IDC_MODEL       24 /* 40 characters */
#define NVME_IDC_MODEL_BYTES 40
#define NVME_IDC_MDTS        77
#define NVME_IDC_NN          516
#define NVME_IDC_VWC         525

/* Identify namespace */
#define NVME_IDN_NSZE  0
#define NVME_IDN_FLBAS 26
#define NVME_IDN_LBAF  128 /* u16 metadata bytes, u8 log2 of data bytes, u8 */

#endif
