/** One example: column names and values. */
export type Row = Record<string, unknown>;

/** A row and what names it in messages: "prompts.jsonl:7", "prompts.parquet: row 6". */
export interface PlacedRow {
  row: Row;
  where: string;
}
