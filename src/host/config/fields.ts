// Small words for the schema: a field is a zod type with the sentence that users read and, for numbers, the unit.
import { z } from 'zod';

/** Attaches description and unit; both end up in the JSON Schema and in docs/reference/config.md. */
export const field = <T extends z.ZodType>(type: T, description: string, unit?: string): T =>
  type.meta(unit === undefined ? { description } : { description, unit });

export const seconds = () => z.number().nonnegative();
export const positiveSeconds = () => z.number().positive();
export const bytes = () => z.number().nonnegative();
export const count = () => z.int().nonnegative();
export const positiveCount = () => z.int().positive();
export const share = () => z.number().min(0).max(1);
/** 0 lets the system choose a free port. */
export const port = () => z.int().min(0).max(65535);
