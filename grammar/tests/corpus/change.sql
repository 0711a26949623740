alter table public.item add column colour text;
