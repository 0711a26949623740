-- Listen entries: from which provider a receiver fetches the events of an origin. Derived from paths and subscriptions;
-- every node derives the same ones.

-- Stores a listen entry by hand; the next rebuild may take it away again. Returns the event's number.
-- Locks: config lock. Event: STORE_LISTEN.
create or replace function @NAMESPACE@.storeListen(p_origin integer, p_provider integer, p_receiver integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.storeListen_int(p_origin, p_provider, p_receiver);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'STORE_LISTEN', p_origin::text, p_provider::text, p_receiver::text);
end
$trunkline$;

-- The local part of storeListen(); an origin not heard of yet is stored as pending. Returns 0.
create or replace function @NAMESPACE@.storeListen_int(
    p_li_origin integer,
    p_li_provider integer,
    p_li_receiver integer
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_expectNode(p_li_origin);
    perform @NAMESPACE@.tl_expectNode(p_li_provider);
    perform @NAMESPACE@.tl_expectNode(p_li_receiver);
    insert into @NAMESPACE@.sl_listen (li_origin, li_provider, li_receiver)
    values (p_li_origin, p_li_provider, p_li_receiver)
    on conflict (li_origin, li_provider, li_receiver) do nothing;
    return 0;
end
$trunkline$;

-- Takes a listen entry away; the next rebuild may bring it back. Returns the event's number.
-- Locks: config lock. Event: DROP_LISTEN.
create or replace function @NAMESPACE@.dropListen(p_li_origin integer, p_li_provider integer, p_li_receiver integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.dropListen_int(p_li_origin, p_li_provider, p_li_receiver);
    return @NAMESPACE@.createEvent(
        @CLUSTER@, 'DROP_LISTEN', p_li_origin::text, p_li_provider::text, p_li_receiver::text
    );
end
$trunkline$;

-- The local part of dropListen(). Returns 1 if there was such an entry, else 0.
create or replace function @NAMESPACE@.dropListen_int(
    p_li_origin integer,
    p_li_provider integer,
    p_li_receiver integer
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    delete from @NAMESPACE@.sl_listen l
    where l.li_origin = p_li_origin and l.li_provider = p_li_provider and l.li_receiver = p_li_receiver;
    return case when found then 1 else 0 end;
end
$trunkline$;

-- Whether the receiver gets the origin's events at all.
create or replace function @NAMESPACE@.is_node_reachable(origin_node_id integer, receiver_node_id integer) returns boolean
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select exists (
        select from @NAMESPACE@.sl_listen l
        where l.li_origin = origin_node_id and l.li_receiver = receiver_node_id
    )
$trunkline$;

-- Derives all listen entries anew. Returns 0.
-- Events travel along the paths to everybody, from every neighbour that gets them; but a subscriber takes an origin's
-- events only from where its data come, so that no event arrives before the data it speaks of.
-- Only rows that change are touched: the function runs with every change of a path or a subscription.
-- Locks: the caller holds the config lock. Event: none.
create or replace function @NAMESPACE@.RebuildListenEntries() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    with recursive usable as (
        select p.pa_server as provider, p.pa_client as receiver
        from @NAMESPACE@.sl_path p
        where p.pa_conninfo <> '<event pending>'
    ), reached (origin, receiver) as (
        -- whom the events of an origin reach, over one path or more
        select p.pa_server, p.pa_client
        from @NAMESPACE@.sl_path p
        union
        select r.origin, u.receiver
        from reached r
        join usable u on u.provider = r.receiver and u.receiver <> r.origin
    ), possible (origin, provider, receiver) as (
        select p.pa_server, p.pa_server, p.pa_client
        from @NAMESPACE@.sl_path p
        union
        select r.origin, u.provider, u.receiver
        from reached r
        join usable u on u.provider = r.receiver and u.receiver <> r.origin
    ), subscribed as (
        select s.set_origin as origin, b.sub_provider as provider, b.sub_receiver as receiver,
               bool_or(b.sub_provider = s.set_origin and o.no_active) over pair as direct,
               bool_or(not p.no_failed) over pair as served
        from @NAMESPACE@.sl_subscribe b
        join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
        join @NAMESPACE@.sl_node o on o.no_id = s.set_origin
        join @NAMESPACE@.sl_node p on p.no_id = b.sub_provider
        where b.sub_active
        window pair as (partition by s.set_origin, b.sub_receiver)
    ), wanted (origin, provider, receiver) as (
        -- subscribers listen where their data come from
        select d.origin, d.provider, d.receiver
        from subscribed d
        where case when d.direct then d.provider = d.origin else d.served end
        union
        select p.origin, p.provider, p.receiver
        from possible p
        where not exists (
            select from subscribed d
            where d.origin = p.origin and d.receiver = p.receiver and (d.direct or d.served)
        ) and not (
            -- of a failed origin only providers of its sets have everything
            exists (select from @NAMESPACE@.sl_node n where n.no_id = p.origin and n.no_failed)
            and exists (
                select from @NAMESPACE@.sl_set s
                join @NAMESPACE@.sl_subscribe b on b.sub_set = s.set_id
                where s.set_origin = p.origin
            )
            and not exists (
                select from @NAMESPACE@.sl_set s
                join @NAMESPACE@.sl_subscribe b on b.sub_set = s.set_id
                where s.set_origin = p.origin and b.sub_provider = p.provider
            )
        )
    ), gone as (
        delete from @NAMESPACE@.sl_listen l
        where not exists (
            select from wanted w
            where w.origin = l.li_origin and w.provider = l.li_provider and w.receiver = l.li_receiver
        )
    )
    insert into @NAMESPACE@.sl_listen (li_origin, li_provider, li_receiver)
    select w.origin, w.provider, w.receiver
    from wanted w
    where not exists (
        select from @NAMESPACE@.sl_listen l
        where l.li_origin = w.origin and l.li_provider = w.provider and l.li_receiver = w.receiver
    );
    return 0;
end
$trunkline$;

-- The statement above is cheap for the few rows there are, but without statistics the planner expects thousands and
-- compiles it first, which takes seconds. The setting came with PostgreSQL 11.
do $trunkline$
begin
    if current_setting('server_version_num')::integer >= 110000 then
        alter function @NAMESPACE@.RebuildListenEntries() set jit to off;
    end if;
end
$trunkline$;
