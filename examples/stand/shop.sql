-- The shop's schema: the tables the runbook names, owned by the role the operator logs in as. Run by shop.py as
-- that role, in an empty database that has the extension vector.

CREATE TABLE products (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title       text NOT NULL,
    description text NOT NULL,
    category    text NOT NULL,
    price       numeric(10, 2) NOT NULL,
    embedding   vector(384),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()  -- kept by the application, as in most shops: no trigger
);

CREATE TABLE searches (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    query         text NOT NULL,
    user_id       bigint,
    results_count integer NOT NULL,
    embedding     vector(384),
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX searches_created_at ON searches (created_at);

CREATE TABLE user_profiles (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    interests  text NOT NULL,
    embedding  vector(384),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Many more vectors than a shop of this size has, for index builds that take a while.
CREATE TABLE product_vectors (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id bigint NOT NULL REFERENCES products ON DELETE CASCADE,
    embedding  vector(384)
);

-- The runbook's appendix: find_similar_products('<vector>', 0.7, 10, NULL, NULL, NULL). A plain SQL function, so the
-- planner sees the query (and the index) instead of a black box.
CREATE FUNCTION find_similar_products(
    query_embedding vector,
    match_threshold double precision,
    match_count     integer,
    only_category   text DEFAULT NULL,
    min_price       numeric DEFAULT NULL,
    max_price       numeric DEFAULT NULL
) RETURNS TABLE (
    id bigint, title text, description text, category text, price numeric, similarity double precision
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT p.id, p.title, p.description, p.category, p.price, 1 - (p.embedding <=> query_embedding)
    FROM products p
    WHERE p.embedding IS NOT NULL
      AND 1 - (p.embedding <=> query_embedding) >= match_threshold
      AND (only_category IS NULL OR p.category = only_category)
      AND (min_price IS NULL OR p.price >= min_price)
      AND (max_price IS NULL OR p.price <= max_price)
    ORDER BY p.embedding <=> query_embedding
    LIMIT match_count
$$;

GRANT SELECT ON products, searches, user_profiles, product_vectors TO api;
-- the search service logs what is searched, and its own backfill writes embeddings
GRANT INSERT (query, results_count) ON searches TO api;
GRANT UPDATE (embedding, updated_at) ON products TO api;
