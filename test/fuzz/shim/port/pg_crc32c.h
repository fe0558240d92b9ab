/*-------------------------------------------------------------------------
 *
 * pg_crc32c.h (shim)
 *	  Shadows the server's header of that name, whose functions are in the server.
 *	  Slower, and the same numbers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PG_CRC32C_H
#define PG_CRC32C_H

typedef uint32 pg_crc32c;

#define INIT_CRC32C(crc) ((crc) = 0xFFFFFFFF)
#define COMP_CRC32C(crc, data, length) ((crc) = shim_crc32c((crc), (data), (length)))
#define FIN_CRC32C(crc) ((crc) ^= 0xFFFFFFFF)

extern pg_crc32c shim_crc32c(pg_crc32c crc, const void *data, size_t length);

#endif /* PG_CRC32C_H */
