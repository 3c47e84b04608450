/* Status of every call that can fail: 0 is success, each negative value has one meaning. */
#ifndef TML_STATUS_H
#define TML_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  TML_OK = 0,
  TML_ERR_MAGIC = -1,    /* not a weights blob */
  TML_ERR_VERSION = -2,  /* a weights blob of a format this code does not read */
  TML_ERR_SIZE = -3,     /* shorter than the code needs */
  TML_ERR_ABI = -4,      /* weights and code are not of the same structure */
  TML_ERR_NO_MODEL = -5, /* the factory image holds no model */
  TML_ERR_FLASH = -6,    /* the flash did not do what was asked */
  TML_ERR_IMAGE = -7,    /* not a whole, unchanged image for this device class */
} tml_status_t;

#ifdef __cplusplus
}
#endif
#endif
